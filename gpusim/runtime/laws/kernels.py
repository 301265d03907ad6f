"""The two sets of laws behind one interface: calibrated on measurements, and the ideal roofline."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, TypeAlias

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.model.arrays import Count, Size
from gpusim.model.work import Attention, Elementwise, ExpertPass, Gemm, GroupedGemm, HostWork, Sort
from gpusim.runtime.laws.elementwise import KERNELS, ElementwiseRows, elementwise_time
from gpusim.runtime.laws.gemm import GemmRows, gemm_time
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.runtime.laws.host import host_time
from gpusim.runtime.laws.mla import mla_time
from gpusim.runtime.laws.moe import Device, GroupedRows, PassRows, grouped_time, moe_law, passing_time
from gpusim.runtime.laws.prefill import call_time
from gpusim.runtime.laws.sorting import IDEAL_SORT_BYTES, sort_time
from gpusim.runtime.laws.timing import KernelTime
from gpusim.spec.engine_profile import NO_PROFILE, EngineProfile
from gpusim.spec.laws import LawsSpec

Computed: TypeAlias = Gemm | GroupedGemm | Attention | Elementwise | ExpertPass | Sort | HostWork
"""What a GPU does by itself, or waits for."""


class KernelLaws(Protocol):
    """How long kernels take on one kind of GPU."""

    def time(self, work: Computed) -> KernelTime:
        """Return the terms of the duration of *work*: a row a step of an attention, a row a size of anything else."""
        ...


class CalibratedLaws:
    """Laws with parameters of a device.

    Args:
        gpu: The GPU's figures.
        laws: Its parameters.
        profile: Of the engine, for what the host does.
    """

    def __init__(self, gpu: GpuFigures, laws: LawsSpec, profile: EngineProfile = NO_PROFILE) -> None:
        self.gpu = gpu
        self.laws = laws
        self.profile = profile

    def time(self, work: Computed) -> KernelTime:
        """See `KernelLaws.time`."""
        if isinstance(work, Attention):
            if work.latent is not None:
                return mla_time(work, work.latent, self.laws, self.gpu)
            return call_time(work, self.laws, self.gpu)
        if isinstance(work, Gemm):
            m, n, k, weights = _rows(work.m, work.n, work.k, work.weight_bytes)
            reused = None if work.reuse_distance is None else _rows(work.reuse_distance)[0]
            matrix = self.laws.physics.matrix
            timing = gemm_time(
                GemmRows(m, n, k, weights, reused),
                self.laws.gemm,
                matrix,
                self.gpu,
                work.dtype,
                in_blocks=work.scaled_in_blocks,
                is_alone=work.is_alone,
            )
            return replace(timing, weight_bytes=work.weight_bytes)
        if isinstance(work, GroupedGemm | ExpertPass):
            return self._of_experts(work)
        return host_time(work, self.profile, self.gpu) if isinstance(work, HostWork) else self._of_elements(work)

    def _of_elements(self, work: Elementwise | Sort) -> KernelTime:
        if isinstance(work, Sort):
            return sort_time(_rows(work.elements)[0], self.laws.elementwise, self.gpu)
        sizes = (work.bytes_read + work.bytes_written, work.hbm_bytes, work.rows, work.columns)
        kernel = KERNELS[self.laws.elementwise_kernels][work.kind]
        return elementwise_time(ElementwiseRows(*_rows(*sizes)), kernel, self.laws.elementwise, self.gpu)

    def _of_experts(self, work: GroupedGemm | ExpertPass) -> KernelTime:
        law = moe_law(work.kernels, self.laws.moe)
        if isinstance(work, ExpertPass):
            return passing_time(PassRows(*_rows(work.token_bytes, work.row_bytes, work.other_bytes)), law, self.gpu)
        reused = () if work.reuse_distance is None else (work.reuse_distance,)
        own, others = (work.rows, work.experts), (work.other_rows, work.other_experts)
        sizes = _rows(work.tokens, *own, *others, work.held, work.n, work.k, work.weight_bytes, *reused)
        return grouped_time(GroupedRows(*sizes), law, Device(self.gpu, self.laws.physics), work.dtype)


class RooflineLaws:
    """Peak numbers: the larger of bytes / bandwidth and FLOPs / peak, and nothing else.

    Args:
        gpu: The GPU's figures, with its peak bandwidth.
    """

    def __init__(self, gpu: GpuFigures) -> None:
        self.gpu = gpu

    def time(self, work: Computed) -> KernelTime:
        """See `KernelLaws.time`."""
        if isinstance(work, Attention):
            compute_s = work.flops / self.gpu.peak_flops("bf16")
            timing = self._roofline(compute_s, _even_bytes(work), kv_bytes=work.kv_bytes)
            return timing if work.latent is None else replace(timing, weight_bytes=work.latent.weight_bytes)
        if isinstance(work, Gemm | GroupedGemm):
            flops_s = work.flops / self.gpu.peak_flops(work.dtype)
            compute_s, size, weights = _rows(flops_s, work.weight_bytes + work.activation_bytes, work.weight_bytes)
            return replace(self._roofline(compute_s, size), weight_bytes=weights)
        if isinstance(work, Sort):
            return self._roofline(*_rows(0.0, IDEAL_SORT_BYTES * work.elements))
        if isinstance(work, ExpertPass):
            return self._roofline(*_rows(0.0, work.token_bytes + work.row_bytes))
        if isinstance(work, HostWork):
            return host_time(work, NO_PROFILE, self.gpu)
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


def _even_bytes(work: Attention) -> FloatArray:
    """Return what attention moves beside its cache."""
    latent = work.latent
    return (
        work.activation_bytes if latent is None else work.activation_bytes + latent.weight_bytes + latent.expanded_bytes
    )


def _rows(*values: Count | Size) -> list[FloatArray]:
    """Return *values* as arrays of one length: that of the longest, 1 if all are numbers."""
    return np.broadcast_arrays(*(np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in values))  # type: ignore[return-value]
