"""Executors play step programs on the cluster.

`KernelExecutor` simulates every kernel on every rank: its bytes on the memory channels, its collectives on the links,
so that whatever else uses them is felt. On idle resources each kernel takes exactly its law's time.

Events per step on SimPy's queue, without foreign traffic: `EVENTS_PER_KERNEL` for every kernel on every rank (one less
where all its bytes are in L2, `EVENTS_PER_REMOTE_READ` more where it reads KV over the fabric),
`EVENTS_PER_COLLECTIVE` and `EVENTS_PER_STEP`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import simpy

from gpusim.core.clock import DECISION, TICKS_PER_S, Clock, FloatArray, IntArray, ticks
from gpusim.core.component import Process
from gpusim.hardware.fabric import Fabric
from gpusim.hardware.gpu import Gpu
from gpusim.model.work import StepProgram
from gpusim.runtime.attribution import WAITING
from gpusim.runtime.collective import CollectiveGroup, TimedCollective
from gpusim.runtime.program import ProgramTimer, TimedKernel, TimedProgram

EVENTS_PER_KERNEL: Final = 3
"""The bank is through with its bytes; it learns of that; it ends."""
EVENTS_PER_REMOTE_READ: Final = 3
"""Its flow starts; the fabric is through with its bytes; it learns of that."""
EVENTS_PER_COLLECTIVE: Final = 5
"""Its flow starts; the fabric is through with its bytes; it learns of that; it ends; the ranks go on."""
EVENTS_PER_STEP: Final = 2
"""The ranks have all ended the step; it is decided what the next one computes."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run of steps as it went."""

    start: int
    """Tick at which the first step started."""
    ends: IntArray
    """(steps,) Tick at which each step ended; fewer than asked for where the run was cut."""
    attribution_s: FloatArray
    """(categories,) Seconds of all steps; they sum to the run's duration."""
    bound_s: float
    """What the steps take at least: weights, KV, FLOPs and collectives at peak, one after the other."""


class Executor(Protocol):
    """Plays runs of steps; one run at a time."""

    def run(
        self, program: StepProgram, *, kv_channels: FloatArray | None = None
    ) -> Generator[simpy.Event, Any, RunResult]:
        """Play all steps of *program*, or those up to the step during which `cut` was called.

        Args:
            program: The steps.
            kv_channels: (steps, channels) fraction of the batch's KV on each memory channel; None: alike on all.
        """
        ...

    def cut(self) -> None:
        """End the current run, if there is one, with the step that is being played."""
        ...


class Rendezvous:
    """A point that all ranks must reach before any goes on; used over and over."""

    def __init__(self, clock: Clock, num_ranks: int) -> None:
        self._clock = clock
        self._num_ranks = num_ranks
        self._missing = num_ranks
        self._met = clock.event()

    def arrive(self) -> bool:
        """Count a rank; the last one gets True, and must `release` the others."""
        self._missing -= 1
        return self._missing == 0

    @property
    def met(self) -> simpy.Event:
        """What ranks that are not the last wait for."""
        return self._met

    def release(self) -> None:
        """Let the waiting ranks go on, and start the next round."""
        met = self._met
        self._missing = self._num_ranks
        self._met = self._clock.event()
        met.succeed()


@dataclass(slots=True)
class _Run:
    """What the ranks of a run share."""

    timed: TimedProgram
    meeting: Rendezvous
    ends: list[int] = field(default_factory=list)
    is_cut: bool = False
    is_over: bool = False


class KernelExecutor:
    """Every kernel of every layer on every rank.

    Args:
        clock: Of the simulation.
        gpus: The ranks, in order; all of one kind.
        fabric: That connects them, and brings remote KV.
        timer: Times the programs.
        collectives: The ranks as a group; None for a single one.
    """

    def __init__(
        self,
        clock: Clock,
        gpus: Sequence[Gpu],
        fabric: Fabric,
        timer: ProgramTimer,
        collectives: CollectiveGroup | None,
    ) -> None:
        self.clock = clock
        self.gpus = tuple(gpus)
        self.fabric = fabric
        self.timer = timer
        self.collectives = collectives
        self._run: _Run | None = None

    def run(
        self, program: StepProgram, *, kv_channels: FloatArray | None = None
    ) -> Generator[simpy.Event, Any, RunResult]:
        """See `Executor.run`."""
        timed = self.timer.time(program, kv_channels)
        start = self.clock.now
        run = self._run = _Run(timed, Rendezvous(self.clock, len(self.gpus)))
        others = [self.clock.env.process(self._rank(gpu, run)) for gpu in self.gpus[1:]]
        yield from self._rank(self.gpus[0], run)
        yield from others
        self._run = None
        return _result(run, start)

    def cut(self) -> None:
        """See `Executor.cut`."""
        if self._run is not None:
            self._run.is_cut = True

    def _rank(self, gpu: Gpu, run: _Run) -> Process:
        """Play every step of the run on one rank."""
        operations = run.timed.operations
        for step in range(run.timed.program.steps):
            for operation in operations:
                if isinstance(operation, TimedKernel):
                    yield from self._kernel(gpu, operation, step)
                else:
                    yield from self._collective(run, operation)
            yield from self._end_step(run, is_last=step == run.timed.program.steps - 1)
            if run.is_over:
                return

    def _kernel(self, gpu: Gpu, kernel: TimedKernel, step: int) -> Process:
        """Stream the bytes of a kernel, then wait for what the law says is left of it."""
        start = self.clock.now
        row = step if len(kernel.ticks) > 1 else 0
        gpu.compute.begin()
        transfer = gpu.memory.stream(kernel.demand_s[row], kernel.size_bytes[row])
        disturbed, memory_s = False, 0.0
        if kernel.remote_bytes is not None:
            disturbed, memory_s = yield from self._read_remote(gpu, kernel.remote_bytes[row])
        yield transfer.done
        if disturbed or transfer.disturbed:
            duration = ticks(kernel.contended_s(step, max(memory_s, transfer.elapsed_s)))
        else:
            duration = kernel.ticks[row]
        # After others' traffic the bytes may end a rounding to the clock later than the law says.
        yield self.clock.timeout(max(0, start + duration - self.clock.now))
        gpu.compute.end(start, kernel.flops[min(row, len(kernel.flops) - 1)])
        if gpu.probes:
            gpu.emit(kernel.name, start)

    def _read_remote(self, gpu: Gpu, size_bytes: float) -> Generator[simpy.Event, Any, tuple[bool, float]]:
        """Bring KV over the fabric; return whether other traffic disturbed it, and its time."""
        remote = self.timer.remote
        assert remote is not None, "a kernel with remote bytes comes from a timer that knows where they lie"
        flow = self.fabric.transfer(remote.loads[gpu.name].scaled(size_bytes), latency_s=remote.latency_s)
        yield flow.done
        return flow.disturbed, remote.latency_s + flow.elapsed_s

    def _collective(self, run: _Run, collective: TimedCollective) -> Process:
        """Meet the other ranks; the last one to come carries the collective out for all."""
        assert self.collectives is not None, "a program with collectives needs a group of ranks"
        start = self.clock.now
        if not run.meeting.arrive():
            yield run.meeting.met
            return
        yield from self.collectives.perform(collective)
        run.meeting.release()
        for gpu in self.gpus:
            if gpu.probes:
                gpu.emit(f"{collective.operation} {collective.name}", start)

    def _end_step(self, run: _Run, *, is_last: bool) -> Process:
        """Meet the other ranks; the last one notes the time and decides whether another step follows."""
        if not run.meeting.arrive():
            yield run.meeting.met
            return
        run.ends.append(self.clock.now)
        if not is_last:
            # Arrivals of this tick come before the decision, so that they can cut the run here and not a step later.
            yield self.clock.timeout(0, priority=DECISION)
        run.is_over = is_last or run.is_cut
        run.meeting.release()


def _result(run: _Run, start: int) -> RunResult:
    ends = np.array(run.ends, dtype=np.int64)
    attribution_s = run.timed.attribution_s[: len(ends)].sum(axis=0)
    waited = int(ends[-1]) - start - int(run.timed.step_ticks[: len(ends)].sum())
    attribution_s[WAITING] += waited / TICKS_PER_S
    return RunResult(start, ends, attribution_s, float(run.timed.bound_s[: len(ends)].sum()))
