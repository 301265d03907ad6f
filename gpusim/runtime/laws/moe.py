"""Mixtures of experts: grouped products that read the weights of the chosen experts, and passes over activations.

    tiles(X, R) = max(X, X / 2 + R / m) · ceil(n / c)      X distinct experts, R rows: an expert's last tile is half full
    tile time   = max(t_tile + k · (c · w + m · a) / (sm_factor · matrix.sm_bandwidth), 2 · m · c · k / (compute_efficiency · peak / SMs))
    other       = ceil(tiles / SMs) · tile time
    memory      = X · n · k · w / rate, of which L2 serves what it still holds
    t           = t0 / 2 + idle tiles / SMs · 0.17 us + smooth_max(other, memory)

Tiles are of m rows and c columns (`moe_tiles`), weights of w and activations of a bytes. A layer has two products, so that t0
is what it pays at least: routing, sorting by expert, both products, activation and sum are launched by it. Its other kernels
pay their bytes alone, those of tokens at ``token_factor`` of the bandwidth, those of the rows of experts at ``row_factor``.

Triton's kernels launch tiles for the experts of other ranks too, which write zeros (idle tiles), and pass over their rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.model.work import ExpertKernels
from gpusim.runtime.laws.gpu import GpuFigures, law_for
from gpusim.runtime.laws.moe_tiles import Routed, tiles_of
from gpusim.runtime.laws.timing import KernelTime, l2_hit
from gpusim.spec.base import DTYPE_BYTES, Dtype, WeightDtype
from gpusim.spec.laws import PhysicsSpec
from gpusim.spec.moe_law import MoeLawSpec, MoeLibrary
from gpusim.units import us

SMOOTHNESS: Final = 2.0
T_IDLE: Final = 0.17 * us
"""Of a tile of rows of another rank's expert on an SM: launched, it writes zeros (fits on A100 and H100: 0.13 and 0.18)."""
ALIGNMENT, DEPTH, NARROW = 16, 64, 10.0
"""Triton reads rows of weights whose length is no multiple of 16 element by element: ten times slower (fits on A100 and
H100: 7 and 19), in steps of 64."""


Tile: TypeAlias = tuple[FloatArray, FloatArray]
"""Rows and columns of tiles, (rows,) each."""


@dataclass(frozen=True, slots=True)
class Device:
    """The GPU, and what all kernels share on it."""

    gpu: GpuFigures
    physics: PhysicsSpec


@dataclass(frozen=True, slots=True)
class GroupedRows:
    """Products with the weights of chosen experts, one a row; all arrays (rows,); see `GroupedGemm`."""

    tokens: FloatArray
    rows: FloatArray
    experts: FloatArray
    other_rows: FloatArray
    other_experts: FloatArray
    held: FloatArray
    n: FloatArray
    k: FloatArray
    weight_bytes: FloatArray
    reuse_distance: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class PassRows:
    """Passes over activations, one a row; all arrays (rows,) of bytes; see `ExpertPass`."""

    token_bytes: FloatArray
    row_bytes: FloatArray
    other_bytes: FloatArray


def moe_law(kernels: ExpertKernels, laws: Mapping[WeightDtype, Mapping[MoeLibrary, MoeLawSpec]]) -> MoeLawSpec:
    """Return the law of *kernels*: where that library has none for the type, of what comes nearest.

    Scales per tensor and in blocks stand for each other, blocks first, because fp8 per tensor was measured with kernels
    that are unusually slow.
    """
    is_fp8 = kernels.stored in {"fp8", "fp8_block"}
    types: tuple[WeightDtype, ...] = (kernels.stored, "fp8_block", "fp8") if is_fp8 else (kernels.stored,)
    known = [laws[stored] for stored in types if stored in laws] or [law_for(kernels.stored, laws)]
    named = [law for libraries in known for name, law in libraries.items() if name == kernels.library]
    if named:
        return named[0]
    nearest = laws.get("fp8_block", known[0]) if is_fp8 and kernels.library is not None else known[0]
    return next(iter(nearest.values()))


def grouped_time(rows: GroupedRows, law: MoeLawSpec, device: Device, dtype: Dtype) -> KernelTime:
    """Apply the law of experts stored as *dtype* to *rows*."""
    gpu, physics = device.gpu, device.physics
    rate = law.memory_factor * gpu.bandwidth
    hit = l2_hit(rows.reuse_distance, physics.l2_fraction * gpu.l2_bytes)
    tile = tile_m, tile_n = tiles_of(law.tiles, Routed(rows.tokens, rows.rows + rows.other_rows, rows.held))
    across = np.ceil(rows.n / tile_n)
    own = _row_tiles(rows.experts, rows.rows, tile_m) * across
    idle: FloatArray = _row_tiles(rows.other_experts, rows.other_rows, tile_m) * across * law.is_triton
    return KernelTime(
        fixed_s=law.t0 / 2 + idle / gpu.sm_count * T_IDLE,
        other_s=np.ceil(own / gpu.sm_count) * _tile_s(rows.k, tile, law, device, dtype),
        l2_s=rows.weight_bytes * hit / (physics.l2_speedup * rate),
        even_bytes=rows.weight_bytes * (1 - hit),
        kv_bytes=np.zeros_like(rows.rows),
        memory_rate=rate,
        smoothness=SMOOTHNESS,
        weight_bytes=rows.weight_bytes,
    )


def _row_tiles(experts: FloatArray, rows: FloatArray, tile_m: FloatArray) -> FloatArray:
    tiles: FloatArray = np.maximum(experts, experts / 2 + rows / tile_m)
    return tiles


def _tile_s(k: FloatArray, tile: Tile, law: MoeLawSpec, device: Device, dtype: Dtype) -> FloatArray:
    """Return the time of one tile, (rows,)."""
    gpu, (tile_m, tile_n) = device.gpu, tile
    depth = np.where(k % ALIGNMENT == 0, k, np.ceil(k / DEPTH) * DEPTH * NARROW) if law.is_triton else k
    taken_in = depth * (tile_n * DTYPE_BYTES[dtype] + tile_m * (1.0 if dtype == "fp8" else 2.0))
    fed_s = law.t_tile + taken_in / (law.sm_factor * device.physics.matrix.sm_bandwidth)
    computed_s = 2 * tile_m * tile_n * k * gpu.sm_count / (law.compute_efficiency * gpu.peak_flops(dtype))
    tile_s: FloatArray = np.maximum(fed_s, computed_s)
    return tile_s


def passing_time(rows: PassRows, law: MoeLawSpec, gpu: GpuFigures) -> KernelTime:
    """Apply the law to kernels that sort, activate or add up."""
    zero = np.zeros_like(rows.token_bytes)
    row_bytes = rows.row_bytes + rows.other_bytes if law.is_triton else rows.row_bytes
    return KernelTime(
        fixed_s=zero,
        other_s=zero,
        l2_s=(rows.token_bytes / law.token_factor + row_bytes / law.row_factor) / gpu.bandwidth,
        even_bytes=zero,
        kv_bytes=zero,
        memory_rate=gpu.bandwidth,
        smoothness=SMOOTHNESS,
    )
