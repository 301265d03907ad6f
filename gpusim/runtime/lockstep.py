"""Replicas that share experts run in lockstep: all of them start a step together, and meet in every layer with experts.

A step begins when all who have work have said what theirs is; who has none computes one token for nothing. Activations are
padded to the most tokens that any replica has, so kernels differ in attention and sampling only, and everybody waits for
the slowest at each dispatch, at each combine, and at the end. With kernels of known times (nothing foreign on the machine)

    step = Σ over stretches between meetings of the slowest replica's time there + Σ meetings

in whole ticks: `detail: step` adds that up, `detail: kernel` plays it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import simpy

from gpusim.core.clock import TOGETHER, Clock, FloatArray, IntArray
from gpusim.core.component import Process
from gpusim.model.lower import Lowering
from gpusim.model.window import WindowShapes
from gpusim.model.work import Attention, BatchShape, StepProgram
from gpusim.runtime.attribution import WAITING
from gpusim.runtime.collective import CollectiveGroup, TimedCollective
from gpusim.runtime.executor import KernelExecutor, RunResult
from gpusim.runtime.folding import FoldedSteps, account_steps
from gpusim.runtime.program import ProgramTimer, TimedKernel, TimedProgram

Work: TypeAlias = "tuple[StepProgram, Sequence[FloatArray] | None]"
"""One step of a replica, and its KV on the memory channels, see `Executor.run`."""


class Replica:
    """One replica's part in steps of all; an `Executor` of programs of one step.

    Args:
        group: All of them.
        executor: Plays kernels on its ranks.
    """

    def __init__(self, group: Lockstep, executor: KernelExecutor) -> None:
        self.group = group
        self.executor = executor
        self.num_dummies = 0
        """Steps it took part in without work."""

    def run(
        self, program: StepProgram, *, kv_channels: Sequence[FloatArray] | None = None
    ) -> Generator[simpy.Event, Any, RunResult]:
        """Take part in the next step with *program*; see `Executor.run`."""
        assert program.steps == 1, "others decide between any two steps"
        over = self.group.join(self, (program, kv_channels))
        yield over
        return self.group.results[self]

    def cut(self, *, in_flight: int = 0) -> None:
        """Leave a step that was begun as it is; none is planned behind it."""

    def between_steps(self) -> Process:
        """Wait for the end of the step under way, if there is one."""
        while self.group.is_under_way:
            yield self.group.over


@dataclass(eq=False)
class Lockstep:
    """Replicas that share experts.

    Args:
        clock: Of the simulation.
        experts: The ranks of all of them.
        lowering: Of each.
        folds: Says whether a step that starts at a tick is timed without being played.
    """

    clock: Clock
    experts: CollectiveGroup
    lowering: Lowering
    folds: Callable[[int], bool]
    replicas: list[Replica] = field(default_factory=list)
    results: dict[Replica, RunResult] = field(default_factory=dict)
    """Of the last step."""
    is_under_way: bool = False
    num_steps: int = 0
    _joined: dict[Replica, Work] = field(default_factory=dict)
    _waiting: list[Callable[[simpy.Event], None]] = field(default_factory=list)
    """What goes on with the end of the next meeting."""

    def __post_init__(self) -> None:
        self.over = self.clock.event()
        """Happens with the end of the step under way, or of the next."""
        shape, one = BatchShape(1, 1), np.ones(1, dtype=np.int64)
        windows = {window: WindowShapes.of_decodes(one) for window in self.lowering.model.windows}
        self._dummy = self.lowering.lower(shape, windows=windows)

    def join(self, replica: Replica, work: Work) -> simpy.Event:
        """Have *replica* compute *work* in the step that begins in this tick; return what happens with its end."""
        assert not self.is_under_way, "nobody decides during a step"
        if not self._joined:
            self.clock.call_in(0, self._begin, priority=TOGETHER)
        self._joined[replica] = work
        return self.over

    def meet(self, collective: TimedCollective, then: Callable[[simpy.Event], None]) -> None:
        """Have *then* called at the end of *collective*, which begins when all replicas have come to it."""
        self._waiting.append(then)
        if len(self._waiting) == len(self.replicas):
            self.experts.begin(collective, self._part)

    def _part(self, event: simpy.Event) -> None:
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then(event)

    def _begin(self, _: simpy.Event) -> None:
        """Begin a step with those who have joined."""
        self.is_under_way = True
        self.num_steps += 1
        work = {replica: self._joined.get(replica, (self._dummy, None)) for replica in self.replicas}
        most = max(program.shape.num_tokens for program, _ in work.values())
        work = {replica: (self.lowering.padded(program, most), kv) for replica, (program, kv) in work.items()}
        for replica in self.replicas:
            replica.num_dummies += replica not in self._joined
        if self.folds(self.clock.now):
            self._fold(work)
        else:
            processes = [self.clock.env.process(self._play(replica, *own)) for replica, own in work.items()]
            self.clock.env.process(self._await(processes))

    def _play(self, replica: Replica, program: StepProgram, kv_channels: Sequence[FloatArray] | None) -> Process:
        self.results[replica] = yield from replica.executor.run(program, kv_channels=kv_channels)

    def _await(self, processes: Iterable[simpy.Event]) -> Process:
        yield simpy.AllOf(self.clock.env, processes)
        self._end()

    def _fold(self, work: dict[Replica, Work]) -> None:
        """Time a step, account for it, and wait for its end."""
        start = self.clock.now
        timed = {replica: replica.executor.timer.time(*own) for replica, own in work.items()}
        meetings = next(iter(timed.values())).meetings
        ends = start + slowest(timed.values()) + sum(count * each.ticks[0] for count, each in meetings)
        for replica, program in timed.items():
            self.results[replica] = _account(replica.executor, program, work[replica][1], start, ends)
        for count, each in meetings:
            self.experts.fabric.account(each.loads, count, each.link_s)
        self.clock.call_in(ends - start, lambda _: self._end())

    def _end(self) -> None:
        """End the step: all have computed theirs."""
        end = self.clock.now
        for replica, result in self.results.items():
            result.attribution_ps[WAITING] += end - int(result.ends[0])
            self.results[replica] = replace(result, ends=np.array([end], dtype=np.int64))
        self.is_under_way = False
        self._joined = {}
        over, self.over = self.over, self.clock.event()
        over.succeed()


def slowest(timed: Iterable[TimedProgram]) -> int:
    """Return the ticks of the slowest of programs in each stretch between meetings, all stretches together."""
    return int(np.max([stretches(program) for program in timed], axis=0).sum())


def stretches(timed: TimedProgram) -> IntArray:
    """Return the ticks from the start of a program to its first meeting, between meetings, and to its end, (meetings + 1,)."""
    parts = [_stretches_of(part) for _, part in timed.parts]
    found = [0]
    for number in timed.program.sequence:
        first, *others = parts[number]
        found[-1] += first
        found += others
    return np.array(found, dtype=np.int64)


def _stretches_of(operations: Iterable[TimedKernel | TimedCollective]) -> list[int]:
    found = [0]
    for operation in operations:
        if isinstance(operation, TimedCollective) and operation.among == "expert":
            found.append(0)
        else:
            found[-1] += operation.ticks[0]
    return found


def _account(
    executor: KernelExecutor, timed: TimedProgram, kv_channels: Sequence[FloatArray] | None, start: int, end: int
) -> RunResult:
    """Enter in the accounts of its ranks what a program does; return how it went."""
    timer: ProgramTimer = executor.timer
    kinds = [kernel.kv_kind for _, part in timed.program.parts for kernel in part if isinstance(kernel, Attention)]
    attention = [(count, kind, each.rows) for kind, (count, each) in zip(kinds, timed.varying, strict=True)]
    ends = np.array([end], dtype=np.int64)
    folded = FoldedSteps(
        timed.step_ticks, timed.attribution_ps, timed.bound_ps, timed.fixed, attention, ends - timed.step_ticks, ends
    )
    account_steps(folded, 1, kv_channels, timer=timer, gpus=executor.gpus, fabric=executor.fabric)
    attribution_ps = timed.attribution_ps[0].copy()
    attribution_ps[WAITING] += end - start - int(timed.step_ticks[0])
    return RunResult(start, ends, attribution_ps, int(timed.bound_ps[0]), is_folded=True)
