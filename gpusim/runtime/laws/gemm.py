"""Matrix products: the best of a library's tile shapes and splits of the reduction.

    waves  = ceil(ceil(m / tile_m) · ceil(n / tile_n) · split / SMs),  kc = ceil(k / split)
    tile   = waves · max(t_tile + kc · (tile_n · width + min(m, tile_m) · 2) / sm_bandwidth,
                         2 · tile_m · tile_n · kc / (compute_efficiency · peak / SMs))
    memory = W / rate + (X + Y) in L2
    t      = t0 + smooth_max(tile, memory) + [split > 1] (t_split_k + partial sums in L2)

minimised over tile_m in {16, 64, 128}, tile_n in {64, 128, 256}, split in {1, 2, 4, 8, 16}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from gpusim.core.clock import FloatArray
from gpusim.runtime.laws.gpu import GpuFigures, law_for
from gpusim.runtime.laws.timing import KernelTime, l2_hit, smooth_max
from gpusim.spec.base import DTYPE_BYTES, Dtype
from gpusim.spec.laws import GemmLawSpec, WeightDtype

SMOOTHNESS = 3.0
ACTIVATION_BYTES = 2.0
PARTIAL_SUM_BYTES = 8.0
"""Written and read per output element and split, in fp32."""

_TILE_M, _TILE_N, _SPLIT = np.array(
    list(product((16.0, 64.0, 128.0), (64.0, 128.0, 256.0), (1.0, 2.0, 4.0, 8.0, 16.0)))
).T


@dataclass(frozen=True, slots=True)
class GemmRows:
    """Products ``y[m, n] = x[m, k] · w[k, n]``, one a row; all arrays (rows,)."""

    m: FloatArray
    n: FloatArray
    k: FloatArray
    weight_bytes: FloatArray
    activation_bytes: FloatArray
    """x read and y written."""
    reuse_distance: FloatArray | None = None
    """Bytes read between two readings of the same weights; None: L2 holds none of them, as in a model."""


def gemm_time(rows: GemmRows, laws: Mapping[WeightDtype, GemmLawSpec], gpu: GpuFigures, dtype: Dtype) -> KernelTime:
    """Apply the law to *rows*.

    Args:
        rows: The products.
        laws: Parameters by weight dtype.
        gpu: The GPU.
        dtype: Of the weights.
    """
    law = law_for(dtype, laws)
    rate = law.memory_factor * gpu.bandwidth
    l2_rate = law.l2_speedup * rate
    hit = l2_hit(rows.reuse_distance, law.l2_fraction * gpu.l2_bytes)
    cold_bytes = (1 - hit) * rows.weight_bytes
    l2_s = (rows.activation_bytes + hit * rows.weight_bytes) / l2_rate
    memory_s = cold_bytes / rate + l2_s
    tile_s = _tile_s(rows, law, gpu, dtype)
    is_split = _SPLIT > 1
    split_s = is_split * (law.t_split_k + PARTIAL_SUM_BYTES * _SPLIT * (rows.m * rows.n)[:, None] / l2_rate)
    total = smooth_max(tile_s, np.broadcast_to(memory_s[:, None], tile_s.shape), SMOOTHNESS) + split_s
    best = np.arange(len(total)), np.argmin(total, axis=1)
    return KernelTime(
        fixed_s=law.t0 + split_s[best],
        other_s=tile_s[best],
        l2_s=l2_s,
        even_bytes=cold_bytes,
        kv_bytes=np.zeros_like(cold_bytes),
        memory_rate=rate,
        smoothness=SMOOTHNESS,
    )


def _tile_s(rows: GemmRows, law: GemmLawSpec, gpu: GpuFigures, dtype: Dtype) -> FloatArray:
    """(rows, configurations) Time of all waves of tiles."""
    m, n, k = rows.m[:, None], rows.n[:, None], rows.k[:, None]
    waves = np.ceil(np.ceil(m / _TILE_M) * np.ceil(n / _TILE_N) * _SPLIT / gpu.sm_count)
    depth = np.ceil(k / _SPLIT)
    moved = depth * (_TILE_N * DTYPE_BYTES[dtype] + np.minimum(m, _TILE_M) * ACTIVATION_BYTES)
    flops = 2 * _TILE_M * _TILE_N * depth
    rate = law.compute_efficiency * gpu.peak_flops(dtype) / gpu.sm_count
    result: FloatArray = waves * np.maximum(law.t_tile + moved / law.sm_bandwidth, flops / rate)
    return result
