"""Matrix products: tiles of a library's kernels, which the matrix units, an SM's intake, L2 and memory hold up.

Per tile of tile_m x tile_n outputs and one of `split` pieces of the reduction, kc = ceil(k / split):

    tiles  = ceil(m / tile_m) · ceil(n / tile_n) · split,  waves = ceil(tiles / SMs)
    intake = kc · (tile_m · width_x + tile_n · width_w)
    SMs    = waves · max(intake / sm_bandwidth, 2 · tile_m · tile_n · kc / (efficiency · peak / SMs))
    L2     = (tiles · intake + 2 · m · n) / l2_rate
    memory = W / rate
    t      = t0 + quantising + smooth_max(smooth_max(SMs, L2), memory) + [split > 1] (t_split_k + partial sums in L2)

A tile is loaded whole, rows that do not exist too. Kernels take the fastest tile and split, or the tile that covers the rows.
What L2 holds of the weights (benchmarks only) need not come from memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.runtime.laws.gpu import GpuFigures, law_key
from gpusim.runtime.laws.quantise import quantising_s
from gpusim.runtime.laws.timing import KernelTime, l2_hit, smooth_max
from gpusim.spec.base import DTYPE_BYTES, Dtype, WeightDtype
from gpusim.spec.gemm_law import GemmLawSpec, MatrixSpec

SMOOTHNESS: Final = 3.0
SHARPNESS: Final = 24.0
"""Of the edge between weights that L2 holds and such that it does not."""
OUTPUT_BYTES: Final = 2.0
PARTIAL_SUM_BYTES: Final = 8.0
"""Written and read per output element and split, in fp32."""
MOST_ROWS: Final = 8192
"""Of one pass over all tiles: more would fill the caches of the machine that computes this."""


@dataclass(frozen=True, slots=True)
class GemmRows:
    """Products ``y[m, n] = x[m, k] · w[k, n]``, one a row; all arrays (rows,)."""

    m: FloatArray
    n: FloatArray
    k: FloatArray
    weight_bytes: FloatArray
    reuse_distance: FloatArray | None = None
    """Bytes touched between two readings of the same weights; None: L2 holds none of them, as in a model."""


@dataclass(frozen=True, slots=True)
class _Kernel:
    """What decides the tiles of one kernel, as numbers."""

    tile_m: FloatArray
    """(configurations,)"""
    tile_n: FloatArray
    split: FloatArray
    is_by_rows: bool
    weight_width: float
    input_width: float
    sm_count: int
    sm_bandwidth: float
    sm_flops: float
    """FLOP/s of one SM."""
    l2_rate: float
    t_split_k: float


def gemm_time(
    rows: GemmRows,
    laws: Mapping[WeightDtype, GemmLawSpec],
    matrix: MatrixSpec,
    gpu: GpuFigures,
    dtype: Dtype,
    *,
    in_blocks: bool = False,
    is_alone: bool = False,
) -> KernelTime:
    """Apply the law to *rows*.

    Args:
        rows: The products.
        laws: Of an engine's kernels, by stored type of the weights.
        matrix: What the device does for all of them.
        gpu: The GPU.
        dtype: Of the weights.
        in_blocks: Whether they are scaled in blocks of 128 x 128.
        is_alone: Whether they are called by themselves, not compiled into a model.
    """
    key = law_key("fp8_block" if in_blocks else dtype, laws)
    law = laws[key]
    best_rate = matrix.streaming * gpu.bandwidth
    rate = law.memory_factor * best_rate
    is_quantised = key.startswith("fp8") and "fp8" in gpu.spec.compute.peak
    tile_m, tile_n, split = np.array(law.configurations, dtype=np.float64).T
    kernel = _Kernel(
        tile_m,
        tile_n,
        split,
        is_by_rows=law.choice == "rows",
        weight_width=DTYPE_BYTES[dtype],
        input_width=DTYPE_BYTES["fp8" if is_quantised else "bf16"],
        sm_count=gpu.sm_count,
        sm_bandwidth=matrix.sm_bandwidth,
        sm_flops=matrix.efficiency[law_key(key, matrix.efficiency)] * gpu.peak_flops(dtype) / gpu.sm_count,
        l2_rate=matrix.l2_speedup * best_rate,
        t_split_k=law.t_split_k,
    )
    hit = l2_hit(rows.reuse_distance, matrix.l2_fraction * gpu.l2_bytes, SHARPNESS)
    cold_bytes = (1 - hit) * rows.weight_bytes
    memory_s = cold_bytes / rate
    parts = [slice(begin, begin + MOST_ROWS) for begin in range(0, len(memory_s), MOST_ROWS)]
    found = [_fastest(rows.m[part], rows.n[part], rows.k[part], memory_s[part], kernel) for part in parts]
    other_s, split_s = (np.concatenate([each[number] for each in found]) for number in (0, 1))
    fixed_s = law.t0 + split_s + (is_alone & (rows.m == 1)) * law.t_single_row
    if is_quantised:
        fixed_s = fixed_s + quantising_s(rows.m, rows.k, matrix, gpu, kernel.l2_rate)
    zero = np.zeros_like(cold_bytes)
    return KernelTime(
        fixed_s=fixed_s,
        other_s=other_s,
        l2_s=zero,
        even_bytes=cold_bytes,
        kv_bytes=zero,
        memory_rate=rate,
        smoothness=SMOOTHNESS,
    )


def _fastest(
    rows_m: FloatArray, rows_n: FloatArray, rows_k: FloatArray, memory_s: FloatArray, kernel: _Kernel
) -> tuple[FloatArray, FloatArray]:
    """Return the time of tiles and of what a split adds, (rows,) each, with the tile and the split that are taken."""
    m, n, k = rows_m[:, None], rows_n[:, None], rows_k[:, None]
    depth = np.ceil(k / kernel.split)
    intake = depth * (kernel.tile_n * kernel.weight_width + kernel.tile_m * kernel.input_width)
    tiles = np.ceil(m / kernel.tile_m) * np.ceil(n / kernel.tile_n) * kernel.split
    flops = 2 * kernel.tile_m * kernel.tile_n * depth
    sms_s = np.ceil(tiles / kernel.sm_count) * np.maximum(intake / kernel.sm_bandwidth, flops / kernel.sm_flops)
    l2_s = (tiles * intake + OUTPUT_BYTES * m * n) / kernel.l2_rate
    tile_s = smooth_max(sms_s, l2_s, SMOOTHNESS)
    buffers_s = PARTIAL_SUM_BYTES * kernel.split * (m * n) / kernel.l2_rate
    split_s = (kernel.split > 1) * (kernel.t_split_k + buffers_s)
    total = smooth_max(tile_s, np.broadcast_to(memory_s[:, None], tile_s.shape), SMOOTHNESS) + split_s
    if kernel.is_by_rows:
        total = np.where(_covers(m, kernel.tile_m), total, np.inf)
    best = np.arange(len(total)), np.argmin(total, axis=1)
    return tile_s[best], split_s[best]


def _covers(m: FloatArray, tile_m: FloatArray) -> FloatArray:
    """Say which tiles are the lowest that hold all rows, or the highest where none does, (rows, configurations)."""
    heights = np.unique(tile_m)
    wanted = heights[np.minimum(np.searchsorted(heights, m), len(heights) - 1)]
    result: FloatArray = tile_m == wanted
    return result
