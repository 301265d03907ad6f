"""Kernels that only move bytes: norms, rotary embedding, activations, look-ups, copies.

Most give one CTA to every row. A thread handles the elements of its share one after the other and waits for each; an SM
handles so many elements a cycle; and the bytes go through L2 or memory:

    slots  = SMs · floor(threads an SM holds / threads of a CTA)
    waves  = ceil(rows / slots)
    steps  = chain + passes · ceil(columns / (threads · vector))
    fixed  = t0 + waves · steps · t_step
    other  = ceil(rows / SMs) · columns · cycles / (issue_efficiency · clock)
    memory = bytes in L2 / (l2_speedup · rate) + bytes elsewhere / rate
    t      = fixed + smooth_max(other, memory),  p = 4

Threads, vector, passes and grid are in the kernels' source; chain (dependent accesses beside the loop) and cycles were fitted
once for all GPUs. Of the bytes that can be cached, as many as fit in a part c of L2 are found there:
``b / (1 + (b / c)^4)^(1/4)``. What cannot be (embedding rows, new KV) always goes to device memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.model.work import ElementwiseKind
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.runtime.laws.timing import KernelTime
from gpusim.spec.elementwise_law import ElementwiseKernels, ElementwiseLawSpec

SMOOTHNESS = 4.0
FEW_ROWS = 16
"""Up to so many, PyTorch's embedding takes a kernel that looks them up one after the other."""
MANY_ROWS = 256
"""From so many on, vLLM's fused norm takes smaller CTAs."""


@dataclass(frozen=True, slots=True)
class RowKernel:
    """How a kernel goes about a row."""

    chain: float
    """Dependent accesses beside the loop over the row, in steps."""
    threads: int = 0
    """Of a CTA, at most; 0: the grid covers elements, whatever the rows."""
    threads_of_many: int = 0
    """The same from `MANY_ROWS` rows on; 0: alike."""
    is_packed: bool = False
    """Has only as many threads as vectors in a row."""
    vector: int = 1
    """Elements a thread handles at once."""
    passes: int = 0
    """Over the row, each of whose steps waits for the one before; 0: the loads of all steps overlap."""
    cycles: float = 0.0
    """Of an SM of A100, an element."""
    per_row: float = 0.0
    """Steps of each of few rows that are looked up one after the other."""


_ROPE: Final = RowKernel(chain=4.0, threads=512, cycles=1.08)
_POINTWISE: Final = RowKernel(chain=3.0)
_SAMPLE: Final = RowKernel(chain=88.0)
"""Some sixteen small kernels round a conversion to fp32 and a search for the largest."""

KERNELS: Final[dict[ElementwiseKernels, dict[ElementwiseKind, RowKernel]]] = {
    "scalar": {
        "norm": RowKernel(chain=1.5, threads=1024, passes=2, cycles=0.13),
        "activation": RowKernel(chain=0.0, threads=1024, passes=1, cycles=0.55),
        "rope": _ROPE,
        "embedding": RowKernel(chain=5.0, cycles=1.87, per_row=2.3),
        "pointwise": _POINTWISE,
        "sample": _SAMPLE,
    },
    "vector": {
        "norm": RowKernel(chain=4.2, threads=1024, threads_of_many=256, vector=8, passes=2),
        "activation": RowKernel(chain=0.0, threads=1024, is_packed=True, vector=8, passes=1, cycles=0.41),
        "rope": _ROPE,
        "embedding": RowKernel(chain=7.8, per_row=0.92),
        "pointwise": _POINTWISE,
        "sample": _SAMPLE,
    },
}
"""Of 2023 (Sarathi-Serve's, which are vLLM's of then) and of vLLM 0.19; embedding is PyTorch's of the time."""


@dataclass(frozen=True, slots=True)
class ElementwiseRows:
    """Kernels by their sizes, one a row; arrays (rows,)."""

    total_bytes: FloatArray
    """Read and written."""
    hbm_bytes: FloatArray
    """Part of the total that is never in L2."""
    rows: FloatArray
    columns: FloatArray


def elementwise_time(rows: ElementwiseRows, kernel: RowKernel, law: ElementwiseLawSpec, gpu: GpuFigures) -> KernelTime:
    """Apply the law to *rows*, all of one *kernel*."""
    is_serial = (rows.rows <= FEW_ROWS) if kernel.per_row else np.zeros_like(rows.rows, dtype=bool)
    steps = np.where(is_serial, kernel.chain + kernel.per_row * rows.rows, _steps(rows, kernel, gpu))
    busiest = np.ceil(rows.rows / gpu.sm_count) if kernel.threads else rows.rows / gpu.sm_count
    element_s = kernel.cycles / (law.issue_efficiency * gpu.spec.compute.boost_clock)
    cacheable = rows.total_bytes - rows.hbm_bytes
    cached = _cached(cacheable, law.l2_fraction * gpu.l2_bytes)
    return KernelTime(
        fixed_s=law.t0 + steps * law.t_step,
        other_s=np.where(is_serial, 0.0, busiest * rows.columns * element_s),
        l2_s=cached / (law.l2_speedup * gpu.bandwidth),
        even_bytes=rows.hbm_bytes + (cacheable - cached),
        kv_bytes=np.zeros_like(cacheable),
        memory_rate=gpu.bandwidth,
        smoothness=SMOOTHNESS,
    )


def _steps(rows: ElementwiseRows, kernel: RowKernel, gpu: GpuFigures) -> FloatArray:
    """Steps that a call waits for, one after the other."""
    if not kernel.threads:
        return np.full_like(rows.rows, kernel.chain)
    most = np.full_like(rows.rows, float(kernel.threads))
    if kernel.threads_of_many:
        most = np.where(rows.rows >= MANY_ROWS, kernel.threads_of_many, most)
    wanted = np.ceil(rows.columns / kernel.vector) if kernel.is_packed else rows.columns
    threads = np.clip(wanted, 1.0, most)
    resident = np.maximum(1.0, np.floor(gpu.spec.compute.threads_per_sm / threads))
    waves = np.ceil(rows.rows / (gpu.sm_count * resident))
    loop = kernel.passes * np.ceil(rows.columns / (threads * kernel.vector))
    result: FloatArray = waves * (kernel.chain + loop)
    return result


def _cached(size_bytes: FloatArray, usable_bytes: float) -> FloatArray:
    """Bytes found in L2: all far below *usable_bytes*, as many as that far above."""
    result: FloatArray = size_bytes / (1.0 + (size_bytes / usable_bytes) ** 4) ** 0.25
    return result
