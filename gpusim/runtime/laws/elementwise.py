"""Kernels that only move bytes: ``t = t0 + bytes``, from L2 as far as it holds them.

Activations of a decode step are far smaller than L2 and stay there from one kernel to the next; those of a long
prefill do not. What cannot be in L2 (embedding rows, new KV) always goes to device memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpusim.core.clock import FloatArray
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.runtime.laws.timing import KernelTime, l2_hit
from gpusim.spec.laws import ElementwiseLawSpec


@dataclass(frozen=True, slots=True)
class ElementwiseRows:
    """Kernels by their bytes, one a row; arrays (rows,)."""

    total_bytes: FloatArray
    """Read and written."""
    hbm_bytes: FloatArray
    """Part of the total that is never in L2."""


def elementwise_time(rows: ElementwiseRows, law: ElementwiseLawSpec, gpu: GpuFigures) -> KernelTime:
    """Apply the law to *rows*."""
    rate = law.memory_factor * gpu.bandwidth
    cacheable = rows.total_bytes - rows.hbm_bytes
    cached = cacheable * l2_hit(rows.total_bytes, law.l2_fraction * gpu.l2_bytes)
    zero = np.zeros_like(cacheable)
    return KernelTime(
        fixed_s=law.t0 + zero,
        other_s=zero,
        l2_s=cached / (law.l2_speedup * rate),
        even_bytes=rows.hbm_bytes + (cacheable - cached),
        kv_bytes=zero,
        memory_rate=rate,
        smoothness=1.0,
    )
