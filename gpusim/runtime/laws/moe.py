"""Mixtures of experts: grouped products that read the weights of the chosen experts, and passes over activations.

    row tiles = max(X, X / 2 + R / tile_m)                     X distinct experts, R rows: an expert's last tile is half full
    compute = 2 · row tiles · tile_m · n · k / (compute_efficiency · peak)
    waves   = ceil(row tiles · ceil(n / 128) / SMs)
    other   = compute + waves · t_wave                         the least for tile_m in {16, 64, 128}
    memory  = X · n · k · width / rate + activations / (pass_factor · bandwidth)
    t       = t0 / 2 + smooth_max(other, memory)

A layer has two products, so that t0 is what it pays at least: routing, sorting by expert, both products, activation and
sum are launched by it. Its other kernels pay their bytes alone, at ``pass_factor`` of the bandwidth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gpusim.core.clock import FloatArray
from gpusim.runtime.laws.gpu import GpuFigures, law_for
from gpusim.runtime.laws.timing import KernelTime
from gpusim.spec.base import Dtype
from gpusim.spec.laws import MoeLawSpec, WeightDtype

SMOOTHNESS = 3.0
TILE_N = 128.0
_TILE_M = np.array([16.0, 64.0, 128.0])


@dataclass(frozen=True, slots=True)
class GroupedRows:
    """Products with the weights of chosen experts, one a row; all arrays (rows,)."""

    rows: FloatArray
    """Pairs of a token and an expert it chose."""
    experts: FloatArray
    """Distinct ones."""
    n: FloatArray
    k: FloatArray
    weight_bytes: FloatArray
    activation_bytes: FloatArray


def moe_law(dtype: Dtype, laws: Mapping[WeightDtype, MoeLawSpec]) -> MoeLawSpec:
    """Return the law of experts stored as *dtype*; fp8 is scaled in blocks, as published checkpoints are."""
    if dtype == "fp8" and "fp8_block" in laws:
        return laws["fp8_block"]
    return law_for(dtype, laws)


def grouped_time(rows: GroupedRows, law: MoeLawSpec, gpu: GpuFigures, dtype: Dtype) -> KernelTime:
    """Apply the law of experts stored as *dtype* to *rows*."""
    rate = law.memory_factor * gpu.bandwidth
    return KernelTime(
        fixed_s=np.full_like(rows.rows, law.t0 / 2),
        other_s=_tile_s(rows, law, gpu, dtype),
        l2_s=rows.activation_bytes / (law.pass_factor * gpu.bandwidth),
        even_bytes=rows.weight_bytes,
        kv_bytes=np.zeros_like(rows.rows),
        memory_rate=rate,
        smoothness=SMOOTHNESS,
        weight_bytes=rows.weight_bytes,
    )


def _tile_s(rows: GroupedRows, law: MoeLawSpec, gpu: GpuFigures, dtype: Dtype) -> FloatArray:
    experts = rows.experts[:, None]
    row_tiles = np.maximum(experts, experts / 2 + rows.rows[:, None] / _TILE_M)
    depth = (rows.n * rows.k)[:, None] / (law.compute_efficiency * gpu.peak_flops(dtype))
    waves = np.ceil(row_tiles * np.ceil(rows.n / TILE_N)[:, None] / gpu.sm_count)
    tile_s: FloatArray = (2 * row_tiles * _TILE_M * depth + waves * law.t_wave).min(axis=1)
    return tile_s


def passing_time(total_bytes: FloatArray, law: MoeLawSpec, gpu: GpuFigures) -> KernelTime:
    """Apply the law to kernels that sort, activate or add up *total_bytes* read and written, (rows,)."""
    zero = np.zeros_like(total_bytes)
    rate = law.pass_factor * gpu.bandwidth
    return KernelTime(
        fixed_s=zero,
        other_s=zero,
        l2_s=total_bytes / rate,
        even_bytes=zero,
        kv_bytes=zero,
        memory_rate=rate,
        smoothness=SMOOTHNESS,
    )
