"""Times of kernels and collectives on idle resources, in rows: the one place both levels of detail take them from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.core.clock import seconds, ticks, ticks_array
from gpusim.hardware.fabric import Loads
from gpusim.hardware.memory import MemoryBank
from gpusim.model.collectives import Collective
from gpusim.model.work import Attention, Elementwise, ExpertPass, Gemm, GroupedGemm, HostWork, Kernel, Sort
from gpusim.runtime.attribution import kernel_attribution
from gpusim.runtime.collective import CollectiveGroup, CollectiveRows
from gpusim.runtime.foreign_load import IDLE, Load
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.runtime.laws.host import NOTHING_BESIDE, OverlappedHost
from gpusim.runtime.laws.kernels import KernelLaws
from gpusim.runtime.laws.timing import KernelTime


@dataclass(frozen=True, slots=True)
class RemoteKv:
    """KV read over the fabric instead of from the GPU's own memory."""

    loads: dict[str, Loads]
    """Of one byte, read by each rank."""

    @property
    def latency_s(self) -> float:
        """Of the longest route, in whole ticks: its end is where the bytes start to move."""
        return seconds(ticks(max(loads.latency_s for loads in self.loads.values())))

    @property
    def per_byte_s(self) -> float:
        """Time of a byte on an idle fabric."""
        return max(loads.ideal_s for loads in self.loads.values())


@dataclass(frozen=True, slots=True)
class KernelRows:
    """One kernel in many sizes; arrays (rows,)."""

    terms: KernelTime
    ticks: IntArray
    """Duration on idle resources, on the clock."""
    memory_s: FloatArray
    """Time of its bytes."""
    flops: FloatArray
    bound_s: FloatArray
    """What it takes at least: its weights, its KV and its FLOPs at peak."""

    @property
    def demand_s(self) -> FloatArray:
        """Service asked of all memory channels alike, for a kernel whose bytes are spread evenly."""
        return self.memory_s - self.terms.l2_s

    @property
    def attribution_s(self) -> FloatArray:
        """(rows, categories) Where its time goes."""
        return kernel_attribution(self.terms, self.memory_s)


Rows: TypeAlias = KernelRows | CollectiveRows


class KernelTimer:
    """Times kernels on one kind of GPU and collectives of one group of ranks.

    Args:
        figures: Of a rank's GPU.
        laws: Of the kernels.
        bank: The memory of a rank; all ranks' are alike.
        collectives: Of the group; None for a single rank.
        remote: Where the KV lies, if not in the bank.
        experts: All ranks over which experts are dealt, where those are more than the group.
        host: What it does while a step is computed.
    """

    def __init__(
        self,
        figures: GpuFigures,
        laws: KernelLaws,
        bank: MemoryBank,
        collectives: CollectiveGroup | None,
        remote: RemoteKv | None = None,
        *,
        experts: CollectiveGroup | None = None,
        host: OverlappedHost = NOTHING_BESIDE,
    ) -> None:
        self.figures = figures
        self.laws = laws
        self.bank = bank
        self.collectives = collectives
        self.remote = remote
        self.experts = experts
        self.host = host

    def group_of(self, collective: Collective) -> CollectiveGroup:
        """Return the ranks that take part in *collective*."""
        group = self.collectives if collective.among == "tensor" else self.experts
        assert group is not None, "a program with collectives needs a group of ranks"
        return group

    def rows(
        self, kernel: Gemm | GroupedGemm | Elementwise | ExpertPass | Sort | HostWork | Collective, load: Load = IDLE
    ) -> Rows:
        """Time anything but attention, beside foreign traffic of constant rate."""
        if isinstance(kernel, Collective):
            rows = self.group_of(kernel).rows(kernel)
            return rows if load is IDLE else rows.stretched([load.of(a.pattern) for a in rows.algorithms])
        terms = self.laws.time(kernel)
        memory_s = terms.memory_s()
        if load is not IDLE:
            memory_s = terms.l2_s + (memory_s - terms.l2_s) / (1.0 - load.memory_share)
        flops = np.broadcast_to(kernel.flops if isinstance(kernel, Gemm | GroupedGemm) else 0.0, memory_s.shape)
        bound_s = self._bound_s(terms.weight_bytes / self.bank.peak_bandwidth, flops, kernel)
        return KernelRows(terms, ticks_array(terms.duration_s(memory_s)), memory_s, flops, bound_s)

    def attention(self, kernel: Attention, terms: KernelTime, local_s: FloatArray, load: Load = IDLE) -> KernelRows:
        """Time attention.

        Args:
            kernel: What to compute.
            terms: Of its law.
            local_s: (steps,) What the bytes in the rank's own memory take, if nobody else uses it.
            load: Foreign traffic of constant rate.
        """
        if load is not IDLE:
            local_s = local_s / (1.0 - load.memory_share)
        remote_s = self._remote_s(terms)
        memory_s = np.maximum(local_s, remote_s) + terms.l2_s
        least_bytes = np.minimum(terms.kv_bytes, kernel.kv_bytes)
        least_kv_s = least_bytes / self.bank.peak_bandwidth if self.remote is None else remote_s
        bound_s = self._bound_s(least_kv_s, kernel.flops, kernel)
        return KernelRows(terms, ticks_array(terms.duration_s(memory_s)), memory_s, kernel.flops, bound_s)

    def local_bytes(self, terms: KernelTime) -> FloatArray:
        """Return the bytes that an attention moves in the rank's own memory, (steps,)."""
        return terms.even_bytes if self.remote is not None else terms.even_bytes + terms.kv_bytes

    def channel_bytes(self, terms: KernelTime, fractions: FloatArray) -> FloatArray:
        """Return the bytes on memory channels, of which each holds a part of the KV.

        Args:
            terms: Of an attention, (steps,).
            fractions: Of the KV; (steps,) of one channel, (steps, channels) of all.
        """
        even_bytes, kv_bytes = terms.even_bytes / self.bank.num_channels, terms.kv_bytes
        if fractions.ndim == 2:
            even_bytes, kv_bytes = even_bytes[:, None], kv_bytes[:, None]
        size: FloatArray = even_bytes + kv_bytes * fractions
        return size

    def service_s(self, terms: KernelTime, channel_bytes: FloatArray) -> FloatArray:
        """Return the service that bytes on channels ask of them, element by element."""
        service_s: FloatArray = channel_bytes * (self.bank.num_channels / terms.memory_rate)
        return service_s

    def _remote_s(self, terms: KernelTime) -> FloatArray:
        if self.remote is None:
            return np.zeros_like(terms.kv_bytes)
        remote_s: FloatArray = self.remote.latency_s + terms.kv_bytes * self.remote.per_byte_s
        return remote_s

    def _bound_s(self, memory_s: FloatArray | float, flops: FloatArray, kernel: Kernel) -> FloatArray:
        """Time of what must move and be computed, at peak: weights and KV, FLOPs; activations may stay on chip."""
        dtype = kernel.dtype if isinstance(kernel, Gemm | GroupedGemm) else "bf16"
        bound: FloatArray = np.maximum(memory_s, flops / self.figures.peak_flops(dtype))
        return bound
