"""Playing step programs kernel by kernel.

`KernelExecutor` simulates every kernel on every rank: its bytes on the memory channels, its collectives on the links,
so that whatever else uses them is felt. On idle resources each kernel takes exactly its law's time. Ranks that nothing
can tell apart are folded: one is played for all.

Events per step on SimPy's queue, without foreign traffic and without probes: `EVENTS_PER_KERNEL` for every kernel on
every rank that is played (`EVENTS_PER_REMOTE_READ` more where it reads KV over the fabric), `EVENTS_PER_COLLECTIVE` and
`EVENTS_PER_STEP`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import cached_property, partial
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import simpy

from gpusim.core.arrays import FloatArray
from gpusim.core.clock import DECISION, Clock
from gpusim.hardware.fabric import Fabric
from gpusim.hardware.gpu import Gpu
from gpusim.model.step import StepProgram
from gpusim.runtime.attribution import WAITING
from gpusim.runtime.collective import CollectiveGroup, TimedCollective
from gpusim.runtime.executor import RunResult
from gpusim.runtime.mirror import Mirror
from gpusim.runtime.program import ProgramTimer, TimedOperation, TimedProgram
from gpusim.runtime.rank import KernelOfStep, Rank, Reader

EVENTS_PER_KERNEL: Final = 1
"""It ends."""
EVENTS_PER_REMOTE_READ: Final = 2
"""Its flow starts; the fabric is through with its bytes."""
EVENTS_PER_COLLECTIVE: Final = 3
"""Its flow starts; the fabric is through with its bytes; it ends."""
EVENTS_PER_STEP: Final = 1
"""It is decided what the next one computes; one more where the host takes longer than the GPU."""
HOST_WAIT: Final = "waiting for host"
"""What probes are told that a GPU does while its step waits for what the host does beside it."""

MeetOthers: TypeAlias = Callable[[TimedCollective, Callable[[simpy.Event], None]], None]
"""Called when all ranks of a replica have come to a collective with those of others, and what is to happen when it ends."""


class _Run:
    """A run of steps that its ranks play together."""

    def __init__(self, timed: TimedProgram, over: simpy.Event) -> None:
        self.timed = timed
        self.over = over
        """Happens with the end of its last step."""
        self.ends: list[int] = []
        self.begun: int
        """Tick at which the step under way began."""
        self.steps = timed.program.steps
        """After which it is over."""
        self.is_between = False
        """Whether a step has ended and it is not yet decided whether another one follows."""
        self.operations: list[KernelOfStep | TimedCollective] = []
        self._varying: list[KernelOfStep] = []
        parts = [[self._operation(operation) for operation in part] for _, part in timed.parts]
        for number in timed.program.sequence:
            self.operations += parts[number]

    @cached_property
    def parts(self) -> list[str]:
        """The part of the step that each operation belongs to, for probes."""
        return self.timed.part_names

    def move_to(self, step: int) -> None:
        """Make the operations those of *step*."""
        for kernel in self._varying:
            kernel.move_to(step)

    def _operation(self, operation: TimedOperation) -> KernelOfStep | TimedCollective:
        if isinstance(operation, TimedCollective):
            return operation
        kernel = KernelOfStep(operation)
        if operation.varies:
            self._varying.append(kernel)
        return kernel


class KernelExecutor:
    """Every kernel of every layer, on every rank or on one that stands for all.

    Args:
        clock: Of the simulation.
        gpus: The ranks, in order; all of one kind.
        fabric: That connects them, and brings remote KV.
        timer: Times the programs.
        collectives: The ranks as a group; None for a single one.
        folded: Play the first rank only and account for the others what it did. Only where nothing foreign can come
            between the ranks and their laws, and they do not hold each other up (`gpusim.runtime.foreign`). Collectives
            and remote reads are flows with the loads of all ranks in any case. Probes see the rank that is played.
        meet_others: Carries out collectives with the ranks of other replicas.
    """

    def __init__(
        self,
        clock: Clock,
        gpus: Sequence[Gpu],
        fabric: Fabric,
        timer: ProgramTimer,
        collectives: CollectiveGroup | None,
        *,
        folded: bool = False,
        meet_others: MeetOthers | None = None,
    ) -> None:
        self.clock = clock
        self.gpus = tuple(gpus)
        self.fabric = fabric
        self.timer = timer
        self.collectives = collectives
        self._meet_others = meet_others
        self.ranks: Literal["all", "folded"] = "folded" if folded else "all"
        """Which of the ranks are played."""
        played = self.gpus[:1] if folded else self.gpus
        self._ranks = [Rank(gpu, self._reader(gpu), self._meet) for gpu in played]
        self._mirror = Mirror(self.gpus[0], self.gpus[len(played) :])
        self._missing = len(played)
        self._run: _Run | None = None

    @property
    def ranks_alike(self) -> list[str]:
        """The GPU that is played for all, first, and the others; only the first rank where each is played."""
        return [gpu.name for gpu in (self.gpus if self.ranks == "folded" else self.gpus[:1])]

    def run(
        self, program: StepProgram, *, kv_channels: Sequence[FloatArray] | None = None
    ) -> Generator[simpy.Event, Any, RunResult]:
        """See `Executor.run`."""
        timed = self.timer.time(program, kv_channels)
        start = self.clock.now
        self._mirror.look()
        for rank in self._ranks:
            rank.gpu.memory.spread()
        run = self._run = _Run(timed, self.clock.event())
        self._play(run)
        yield run.over
        self._run = None
        return _result(run, start)

    def cut(self, *, in_flight: int = 0) -> None:
        """See `Executor.cut`."""
        run = self._run
        if run is not None:
            run.steps = min(run.steps, len(run.ends) + (not run.is_between) + in_flight)

    def _reader(self, gpu: Gpu) -> Reader | None:
        """Return what brings the remote KV of *gpu*, or of all ranks where it stands for them."""
        remote = self.timer.remote
        if remote is None:
            return None
        loads = remote.loads[gpu.name]
        if self.ranks == "folded":
            loads = self.fabric.together(remote.loads[other.name] for other in self.gpus)
        return Reader(self.fabric, loads, remote.latency_s)

    def _play(self, run: _Run) -> None:
        parts = run.parts if self._ranks[0].gpu.probes else ()
        run.begun = self.clock.now
        for rank in self._ranks:
            rank.play(run.operations, parts)

    def _meet(self, collective: TimedCollective | None) -> None:
        """Count a rank that has come to a collective or to the end of the step; the last one sets off what follows."""
        self._missing -= 1
        if self._missing:
            return
        self._missing = len(self._ranks)
        if collective is None:
            self._await_host()
        elif collective.among == "expert":
            assert self._meet_others is not None, "replicas that share experts meet"
            self._meet_others(collective, partial(self._go_on, collective, self.clock.now))
        else:
            assert self.collectives is not None, "a program with collectives needs a group of ranks"
            self.collectives.begin(collective, partial(self._go_on, collective, self.clock.now))

    def _go_on(self, collective: TimedCollective, start: int, _: simpy.Event) -> None:
        """Let the ranks go on after a collective."""
        for rank in self._ranks:
            if rank.gpu.probes:
                rank.show(collective.full_name, start)
            rank.proceed()

    def _await_host(self) -> None:
        """End the step, or wait for what the host does beside it."""
        run, now = self._run, self.clock.now
        assert run is not None, "only a run that is being played has steps"
        host_end = run.begun + run.timed.host_ticks
        if host_end > now:
            self.clock.call_in(host_end - now, partial(self._end_wait, now))
        else:
            self._end_step()

    def _end_wait(self, start: int, _: simpy.Event) -> None:
        for rank in self._ranks:
            if rank.gpu.probes:
                rank.gpu.emit(HOST_WAIT, start)
        self._end_step()

    def _end_step(self) -> None:
        """Note the time; the run is over, or it is decided whether another step follows."""
        run = self._run
        assert run is not None, "only a run that is being played has steps"
        run.ends.append(self.clock.now)
        for rank in self._ranks:
            rank.gpu.memory.spread()
        self._mirror.account(run.begun)
        run.is_between = True
        if len(run.ends) == run.timed.program.steps:
            run.over.succeed()
        else:
            # Arrivals of this tick come before the decision, so that they can cut the run here and not a step later.
            self.clock.call_in(0, partial(self._decide, run), priority=DECISION)

    def _decide(self, run: _Run, _: simpy.Event) -> None:
        if len(run.ends) >= run.steps:
            run.over.succeed()
        else:
            run.is_between = False
            run.move_to(len(run.ends))
            self._play(run)


def _result(run: _Run, start: int) -> RunResult:
    ends = np.array(run.ends, dtype=np.int64)
    attribution_ps = run.timed.attribution_ps[: len(ends)].sum(axis=0)
    attribution_ps[WAITING] += int(ends[-1]) - start - int(run.timed.step_ticks[: len(ends)].sum())
    return RunResult(start, ends, attribution_ps, int(run.timed.bound_ps[: len(ends)].sum()))
