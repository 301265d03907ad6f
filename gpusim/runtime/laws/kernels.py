"""The two sets of laws behind one interface: calibrated on measurements, and the ideal roofline."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from gpusim.core.clock import FloatArray
from gpusim.model.work import Attention, Count, Elementwise, Gemm, Size, Sort
from gpusim.runtime.laws.attention import attention_rows, attention_time
from gpusim.runtime.laws.elementwise import ElementwiseRows, elementwise_time
from gpusim.runtime.laws.gemm import GemmRows, gemm_time
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.runtime.laws.sorting import IDEAL_SORT_BYTES, sort_time
from gpusim.runtime.laws.timing import KernelTime
from gpusim.spec.laws import LawsSpec


class KernelLaws(Protocol):
    """How long kernels take on one kind of GPU."""

    def time(self, work: Gemm | Attention | Elementwise | Sort) -> KernelTime:
        """Return the terms of the duration of *work*: a row a step of an attention, a row a size of anything else."""
        ...


class CalibratedLaws:
    """Laws with parameters of a device.

    Args:
        gpu: The GPU's figures.
        laws: Its parameters.
    """

    def __init__(self, gpu: GpuFigures, laws: LawsSpec) -> None:
        self.gpu = gpu
        self.laws = laws

    def time(self, work: Gemm | Attention | Elementwise | Sort) -> KernelTime:
        """See `KernelLaws.time`."""
        if isinstance(work, Attention):
            return attention_time(attention_rows(work), self.laws.attention, self.gpu, work.dtype)
        if isinstance(work, Gemm):
            rows = GemmRows(*_rows(work.m, work.n, work.k, work.weight_bytes, work.activation_bytes))
            timing = gemm_time(rows, self.laws.gemm, self.gpu, work.dtype)
            return replace(timing, weight_bytes=work.weight_bytes)
        if isinstance(work, Sort):
            return sort_time(_rows(work.elements)[0], self.laws.elementwise, self.gpu)
        elements = ElementwiseRows(*_rows(work.bytes_read + work.bytes_written, work.hbm_bytes))
        return elementwise_time(elements, self.laws.elementwise, self.gpu)


class RooflineLaws:
    """Peak numbers: the larger of bytes / bandwidth and FLOPs / peak, and nothing else.

    Args:
        gpu: The GPU's figures, with its peak bandwidth.
    """

    def __init__(self, gpu: GpuFigures) -> None:
        self.gpu = gpu

    def time(self, work: Gemm | Attention | Elementwise | Sort) -> KernelTime:
        """See `KernelLaws.time`."""
        if isinstance(work, Attention):
            compute_s = work.flops / self.gpu.peak_flops("bf16")
            return self._roofline(compute_s, work.activation_bytes, kv_bytes=work.kv_bytes)
        if isinstance(work, Gemm):
            compute_s, size = _rows(
                work.flops / self.gpu.peak_flops(work.dtype), work.weight_bytes + work.activation_bytes
            )
            return replace(self._roofline(compute_s, size), weight_bytes=work.weight_bytes)
        if isinstance(work, Sort):
            return self._roofline(*_rows(0.0, IDEAL_SORT_BYTES * work.elements))
        return self._roofline(*_rows(0.0, work.bytes_read + work.bytes_written))

    def _roofline(
        self, compute_s: FloatArray, even_bytes: FloatArray, kv_bytes: FloatArray | None = None
    ) -> KernelTime:
        zero = np.zeros_like(compute_s)
        return KernelTime(
            fixed_s=zero,
            other_s=compute_s,
            l2_s=zero,
            even_bytes=even_bytes,
            kv_bytes=zero if kv_bytes is None else kv_bytes,
            memory_rate=self.gpu.bandwidth,
            smoothness=np.inf,
        )


def _rows(*values: Count | Size) -> list[FloatArray]:
    """Return *values* as arrays of one length: that of the longest, 1 if all are numbers."""
    return np.broadcast_arrays(*(np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in values))  # type: ignore[return-value]
