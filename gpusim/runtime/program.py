"""A step program with its times: what kernel detail plays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.core.clock import TICKS_PER_S, ticks_array
from gpusim.model.collectives import Collective
from gpusim.model.dispatch import own_and_gathered
from gpusim.model.step import StepProgram
from gpusim.model.work import Attention, Kernel
from gpusim.runtime.attribution import LAUNCH, in_ticks
from gpusim.runtime.collective import TimedCollective
from gpusim.runtime.kernel_timer import KernelRows, KernelTimer, Rows
from gpusim.runtime.laws.timing import KernelTime
from gpusim.runtime.totals import StepTotals


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
    rows: KernelRows
    """The same as rows."""
    varies: bool
    """Whether it grows with the context, and so from step to step."""

    def contended_s(self, step: int, memory_s: float) -> float:
        """Duration in *step* when the bytes took *memory_s*, by the same formula as on idle resources."""
        terms = self.terms.at(min(step, len(self.ticks) - 1))
        return float(terms.duration_s(memory_s + terms.l2_s)[0])


TimedOperation: TypeAlias = TimedKernel | TimedCollective
Parts: TypeAlias = tuple[tuple[int, tuple[TimedOperation, ...]], ...]


@dataclass(frozen=True, slots=True)
class TimedProgram:
    """The operations of a step in order, and what all of them take together on idle resources."""

    program: StepProgram
    parts: Parts
    """As in `StepProgram`: operations that a step runs in turn, that many times."""
    fixed: StepTotals
    """One row: the sums over all operations but attention, which alone grows with the context."""
    step_ticks: IntArray
    """(steps,) Sum over the operations, each rounded to the clock before, or what the host takes beside them if that is more."""
    attribution_ps: IntArray
    """(steps, categories) Where that time goes; rows sum to step_ticks."""
    bound_ps: IntArray
    """(steps,) Sum of the operations' bounds."""
    host_ticks: int
    """What the host takes beside each step."""

    @property
    def operations(self) -> tuple[TimedOperation, ...]:
        """All operations of a step, one after the other."""
        return tuple(operation for number in self.program.sequence for operation in self.parts[number][1])

    @property
    def part_names(self) -> list[str]:
        """Where in the model each of `operations` is: ``embedding``, ``layer 0`` and so on, ``head``."""
        sequence, last = self.program.sequence, len(self.parts) - 1
        names = [
            "embedding" if n == 0 else "head" if n == last else f"layer {place - 1}" for place, n in enumerate(sequence)
        ]
        return [name for name, n in zip(names, sequence, strict=True) for _ in self.parts[n][1]]

    @property
    def attribution_s(self) -> FloatArray:
        """(steps, categories) `attribution_ps` in seconds."""
        seconds_by: FloatArray = self.attribution_ps / TICKS_PER_S
        return seconds_by

    @property
    def varying(self) -> list[tuple[int, TimedKernel]]:
        """The kernels that differ from step to step, which `fixed` leaves out, with how often a step runs each."""
        return [
            (count, operation)
            for count, part in self.parts
            for operation in part
            if isinstance(operation, TimedKernel) and operation.varies
        ]


class ProgramTimer(KernelTimer):
    """Times whole programs; what repeats is computed once."""

    @cached_property
    def _known(self) -> dict[Kernel, tuple[TimedOperation, Rows]]:
        return {}

    @cached_property
    def _known_totals(self) -> dict[tuple[int, int, int], StepTotals]:
        return {}

    def time(self, program: StepProgram, kv_channels: Sequence[FloatArray] | None) -> TimedProgram:
        """Time *program*.

        Args:
            program: What to run.
            kv_channels: (steps, channels) of each kind of KV, fraction of the batch's on each channel; None: alike on all.
        """
        parts = tuple(
            (count, tuple(self._timed(kernel, kv_channels) for kernel in kernels)) for count, kernels in program.parts
        )
        fixed = self._totals(program)
        timed_kernels = [(count, o) for count, part in parts for o in part if isinstance(o, TimedKernel) and o.varies]
        step_ticks = np.full(program.steps, fixed.ticks[0])
        attribution_s = np.tile(fixed.attribution_s, (program.steps, 1))
        bound_s = np.full(program.steps, fixed.bound_s[0])
        for count, kernel in timed_kernels:
            step_ticks += count * kernel.rows.ticks
            attribution_s += count * kernel.rows.attribution_s
            bound_s += count * kernel.rows.bound_s
        attribution_ps = in_ticks(attribution_s, step_ticks)
        num_sampled = program.shape.num_sampled
        wait_ticks = self.host.wait_ticks(step_ticks, num_sampled)
        attribution_ps[:, LAUNCH] += wait_ticks
        step_ticks += wait_ticks
        host_ticks = int(self.host.ticks(num_sampled)[0])
        return TimedProgram(program, parts, fixed, step_ticks, attribution_ps, ticks_array(bound_s), host_ticks)

    def _totals(self, program: StepProgram) -> StepTotals:
        """Return the sums over what does not grow with the context, computed once for all programs alike in it."""
        key = program.fixed_key
        if key not in self._known_totals:
            *up_to_head, (_, sampling) = program.parts
            own, gathered = own_and_gathered((n, k) for n, part in up_to_head for k in part)
            parts = (own, gathered, [(1, kernel) for kernel in sampling])
            sums = [
                StepTotals.of(((n, self._fixed(k)[1]) for n, k in part if not isinstance(k, Attention)), 1)
                for part in parts
            ]
            self._known_totals[key] = sums[0] + sums[1] + sums[2]
        return self._known_totals[key]

    def _timed(self, kernel: Kernel, kv_channels: Sequence[FloatArray] | None) -> TimedOperation:
        if not isinstance(kernel, Attention):
            return self._fixed(kernel)[0]
        return self._attention(kernel, None if kv_channels is None else kv_channels[kernel.kv_kind])

    def _fixed(self, kernel: Kernel) -> tuple[TimedOperation, Rows]:
        """Time what is the same in every step."""
        assert not isinstance(kernel, Attention)
        if kernel not in self._known:
            rows = self.rows(kernel)
            operation: TimedOperation
            if isinstance(kernel, Collective):
                operation = self.group_of(kernel).timed(kernel)
            else:
                assert isinstance(rows, KernelRows)
                operation = TimedKernel(
                    name=kernel.name,
                    terms=rows.terms,
                    ticks=rows.ticks.tolist(),
                    demand_s=rows.demand_s.tolist(),
                    size_bytes=rows.terms.even_bytes.tolist(),
                    flops=rows.flops.tolist(),
                    remote_bytes=None,
                    rows=rows,
                    varies=False,
                )
            self._known[kernel] = operation, rows
        return self._known[kernel]

    def _attention(self, kernel: Attention, kv_channels: FloatArray | None) -> TimedKernel:
        terms = self.laws.time(kernel)
        demand_s: list[float] | FloatArray
        size_bytes: list[float] | FloatArray
        if kv_channels is None or self.bank.num_channels == 1 or self.remote is not None:
            size = self.local_bytes(terms)
            local_s = size / terms.memory_rate
            demand_s, size_bytes = local_s.tolist(), size.tolist()
        else:
            size_bytes = self.channel_bytes(terms, kv_channels)
            demand_s = self.service_s(terms, size_bytes)
            local_s = demand_s.max(axis=1)
        rows = self.attention(kernel, terms, local_s)
        return TimedKernel(
            name=kernel.name,
            terms=terms,
            ticks=rows.ticks.tolist(),
            demand_s=demand_s,
            size_bytes=size_bytes,
            flops=rows.flops.tolist(),
            remote_bytes=None if self.remote is None else terms.kv_bytes.tolist(),
            rows=rows,
            varies=True,
        )
