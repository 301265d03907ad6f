"""A step program with its times: what the executors play."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from gpusim.core.clock import TICKS_PER_S, FloatArray, IntArray, seconds, ticks, ticks_array
from gpusim.hardware.fabric import Loads
from gpusim.hardware.memory import MemoryBank
from gpusim.model.work import AllGather, AllReduce, Attention, Elementwise, Gemm, Kernel, StepProgram
from gpusim.runtime.attribution import kernel_attribution
from gpusim.runtime.collective import CollectiveGroup, TimedCollective
from gpusim.runtime.laws.gpu import GpuFigures
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
class TimedKernel:
    """One kernel on each of the ranks, in every step of a program; lists have one entry, or one a step."""

    name: str
    terms: KernelTime
    ticks: list[int]
    """Duration on idle resources, on the clock."""
    demand_s: list[float] | FloatArray
    """Service asked of the memory channels: seconds alike on all, or an array (steps, channels)."""
    size_bytes: list[float] | FloatArray
    """The bytes of that service."""
    flops: list[float]
    remote_bytes: list[float] | None
    """KV bytes read over the fabric."""
    attribution_s: FloatArray
    """(1 or steps, categories)"""
    bound_s: FloatArray
    """(1 or steps,) What it takes at least: its weights, its KV and its FLOPs at peak."""
    varies: bool
    """Whether it grows with the context, and so from step to step."""

    def contended_s(self, step: int, memory_s: float) -> float:
        """Duration in *step* when the bytes took *memory_s*, by the same formula as on idle resources."""
        terms = self.terms.at(min(step, len(self.ticks) - 1))
        return float(terms.duration_s(memory_s + terms.l2_s)[0])


TimedOperation: TypeAlias = TimedKernel | TimedCollective
Parts: TypeAlias = tuple[tuple[int, tuple[TimedOperation, ...]], ...]


@dataclass(frozen=True, slots=True)
class FixedTotals:
    """Sums of a step over all operations but attention, which alone grows with the context."""

    ticks: int
    attribution_s: FloatArray
    """(categories,)"""
    bound_s: float
    even_bytes: float
    """Of a rank's memory."""
    service_s: float
    """Of each of its channels."""
    kernel_ticks: int
    """Of the kernels among them."""
    flops: float
    collectives: tuple[tuple[int, TimedCollective], ...]

    @classmethod
    def of(cls, counted: Sequence[tuple[int, TimedOperation]]) -> FixedTotals:
        """Add up operations, each with how often a step runs it."""
        kernels = [(count, operation) for count, operation in counted if isinstance(operation, TimedKernel)]
        return cls(
            ticks=sum(count * operation.ticks[0] for count, operation in counted),
            attribution_s=np.sum([count * operation.attribution_s[0] for count, operation in counted], axis=0),
            bound_s=float(sum(count * operation.bound_s[0] for count, operation in counted)),
            even_bytes=float(sum(count * kernel.size_bytes[0] for count, kernel in kernels)),
            service_s=float(sum(count * kernel.demand_s[0] for count, kernel in kernels)),
            kernel_ticks=sum(count * kernel.ticks[0] for count, kernel in kernels),
            flops=sum(count * kernel.flops[0] for count, kernel in kernels),
            collectives=tuple((count, o) for count, o in counted if isinstance(o, TimedCollective)),
        )


@dataclass(frozen=True, slots=True)
class TimedProgram:
    """The operations of a step in order, and what all of them take together on idle resources."""

    program: StepProgram
    parts: Parts
    """As in `StepProgram`: operations that a step runs in turn, that many times."""
    fixed: FixedTotals
    step_ticks: IntArray
    """(steps,) Sum over the operations, each rounded to the clock before."""
    attribution_s: FloatArray
    """(steps, categories) Where that time goes; rows sum to step_ticks."""
    bound_s: FloatArray
    """(steps,) Sum of the operations' bounds."""

    @property
    def operations(self) -> tuple[TimedOperation, ...]:
        """All operations of a step, one after the other."""
        return tuple(operation for count, part in self.parts for operation in part * count)

    @property
    def varying(self) -> list[tuple[int, TimedKernel]]:
        """The kernels that differ from step to step, which `fixed` leaves out, with how often a step runs each."""
        return [
            (count, operation)
            for count, part in self.parts
            for operation in part
            if isinstance(operation, TimedKernel) and operation.varies
        ]


class ProgramTimer:
    """Times programs for one kind of GPU and one group of ranks; what repeats is computed once.

    Args:
        figures: Of a rank's GPU.
        laws: Of the kernels.
        bank: The memory of a rank; all ranks' are alike.
        collectives: Of the group; None for a single rank.
        remote: Where the KV lies, if not in the bank.
    """

    def __init__(
        self,
        figures: GpuFigures,
        laws: KernelLaws,
        bank: MemoryBank,
        collectives: CollectiveGroup | None,
        remote: RemoteKv | None = None,
    ) -> None:
        self.figures = figures
        self.laws = laws
        self.bank = bank
        self.collectives = collectives
        self.remote = remote
        self._known: dict[Kernel, TimedOperation] = {}
        self._known_totals: dict[tuple[int, int], FixedTotals] = {}

    def time(self, program: StepProgram, kv_channels: FloatArray | None) -> TimedProgram:
        """Time *program*.

        Args:
            program: What to run.
            kv_channels: (steps, channels) fraction of the batch's KV on each channel; None: alike on all.
        """
        parts = tuple(
            (count, tuple(self._timed(kernel, kv_channels) for kernel in kernels)) for count, kernels in program.parts
        )
        fixed = self._totals(program, parts)
        step_ticks = np.full(program.steps, fixed.ticks, dtype=np.int64)
        attribution_s = np.tile(fixed.attribution_s, (program.steps, 1))
        bound_s = np.full(program.steps, fixed.bound_s)
        timed = TimedProgram(program, parts, fixed, step_ticks, attribution_s, bound_s)
        for count, kernel in timed.varying:
            step_ticks += count * np.array(kernel.ticks, dtype=np.int64)
            attribution_s += count * kernel.attribution_s
            bound_s += count * kernel.bound_s
        # Rounding to the clock moves each kernel by half a picosecond at most; the rows are scaled to sum exactly.
        total_s = attribution_s.sum(axis=1, keepdims=True)
        attribution_s *= (step_ticks / TICKS_PER_S)[:, None] / np.where(total_s > 0, total_s, 1.0)
        return timed

    def _totals(self, program: StepProgram, parts: Parts) -> FixedTotals:
        """Return the sums over what does not grow with the context, computed once for all programs alike in it."""
        key = program.fixed_key
        if key not in self._known_totals:
            counted = [(count, operation) for count, part in parts for operation in part]
            fixed = [(n, o) for n, o in counted if isinstance(o, TimedCollective) or not o.varies]
            self._known_totals[key] = FixedTotals.of(fixed)
        return self._known_totals[key]

    def _timed(self, kernel: Kernel, kv_channels: FloatArray | None) -> TimedOperation:
        if isinstance(kernel, Attention):
            return self._attention(kernel, kv_channels)
        if kernel not in self._known:
            self._known[kernel] = self._fixed(kernel)
        return self._known[kernel]

    def _fixed(self, kernel: Gemm | Elementwise | AllReduce | AllGather) -> TimedOperation:
        if isinstance(kernel, AllReduce | AllGather):
            assert self.collectives is not None, "a program with collectives needs a group of ranks"
            return self.collectives.timed(kernel)
        terms = self.laws.time(kernel)
        memory_s = terms.memory_s()
        flops = np.array([kernel.flops if isinstance(kernel, Gemm) else 0.0])
        return TimedKernel(
            name=kernel.name,
            terms=terms,
            ticks=ticks_array(terms.duration_s(memory_s)).tolist(),
            demand_s=(memory_s - terms.l2_s).tolist(),
            size_bytes=terms.even_bytes.tolist(),
            flops=flops.tolist(),
            remote_bytes=None,
            attribution_s=kernel_attribution(terms, memory_s),
            bound_s=self._bound_s(terms.weight_bytes / self.bank.peak_bandwidth, flops, kernel),
            varies=False,
        )

    def _attention(self, kernel: Attention, kv_channels: FloatArray | None) -> TimedKernel:
        terms = self.laws.time(kernel)
        demand_s, size_bytes, kv_s = self._kv_demand(terms, kv_channels)
        local_s = demand_s.max(axis=1) if demand_s.ndim == 2 else demand_s
        memory_s = np.maximum(local_s, kv_s) + terms.l2_s
        least_kv_s = terms.kv_bytes / self.bank.peak_bandwidth if self.remote is None else kv_s
        return TimedKernel(
            name=kernel.name,
            terms=terms,
            ticks=ticks_array(terms.duration_s(memory_s)).tolist(),
            demand_s=demand_s if demand_s.ndim == 2 else demand_s.tolist(),
            size_bytes=size_bytes if size_bytes.ndim == 2 else size_bytes.tolist(),
            flops=kernel.flops.tolist(),
            remote_bytes=None if self.remote is None else terms.kv_bytes.tolist(),
            attribution_s=kernel_attribution(terms, memory_s),
            bound_s=self._bound_s(least_kv_s, kernel.flops, kernel),
            varies=True,
        )

    def _kv_demand(
        self, terms: KernelTime, kv_channels: FloatArray | None
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the service and the bytes asked of the memory, (steps,) or (steps, channels), and remote KV's time."""
        nothing = np.zeros_like(terms.kv_bytes)
        if self.remote is not None:
            remote_s = self.remote.latency_s + terms.kv_bytes * self.remote.per_byte_s
            return terms.even_bytes / terms.memory_rate, terms.even_bytes, remote_s
        channels = self.bank.num_channels
        if kv_channels is None or channels == 1:
            size = terms.even_bytes + terms.kv_bytes
            return size / terms.memory_rate, size, nothing
        size = terms.even_bytes[:, None] / channels + terms.kv_bytes[:, None] * kv_channels
        return size * (channels / terms.memory_rate), size, nothing

    def _bound_s(self, memory_s: FloatArray | float, flops: FloatArray, kernel: Kernel) -> FloatArray:
        """Time of what must move and be computed, at peak: weights and KV, FLOPs; activations may stay on chip."""
        dtype = kernel.dtype if isinstance(kernel, Gemm) else "bf16"
        bound: FloatArray = np.maximum(memory_s, flops / self.figures.peak_flops(dtype))
        return bound
