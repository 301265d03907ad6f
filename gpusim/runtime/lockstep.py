"""Replicas that share experts run in lockstep: all of them start a step together, and meet in every layer with experts.

A step begins when all who have work have said what theirs is; who has none computes one token for nothing. Activations are
padded to the most tokens that any replica has, where CUDA graphs hold so many, and everybody waits for the slowest at each dispatch, at each combine, and
at the end. `detail: kernel` plays that, `detail: step` adds it up (`gpusim.runtime.lockstep_folding`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import simpy

from gpusim.core.arrays import FloatArray
from gpusim.core.clock import TOGETHER, Clock
from gpusim.core.component import Process
from gpusim.model.dispatch import rows_together
from gpusim.model.lower import Lowering
from gpusim.model.step import BatchShape, StepShapes
from gpusim.model.window import WindowShapes
from gpusim.runtime.attribution import WAITING
from gpusim.runtime.collective import CollectiveGroup, TimedCollective
from gpusim.runtime.executor import RunResult
from gpusim.runtime.kernel_executor import KernelExecutor
from gpusim.runtime.lockstep_folding import LockstepFolder, Work

ONE_TOKEN = BatchShape(1, 1)
"""What a replica without work computes, as vLLM's dummy batch; it is not sampled."""


class Replica:
    """One replica's part in steps of all.

    Args:
        group: All of them.
        executor: Plays kernels on its ranks.
    """

    def __init__(self, group: Lockstep, executor: KernelExecutor) -> None:
        self.group = group
        self.executor = executor
        self.num_dummies = 0
        """Steps it took part in without work."""

    def run(self, work: Work) -> Generator[simpy.Event, Any, RunResult]:
        """Compute *work* in the step that all begin in this tick."""
        yield self.group.join(self, work)
        return self.group.results[self]

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
        max_num_seqs: Of each engine.
        folds: Says whether a step that starts at a tick is timed without being played.
    """

    clock: Clock
    experts: CollectiveGroup
    lowering: Lowering
    max_num_seqs: int
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
        one = np.ones(1, dtype=np.int64)
        windows = {window: WindowShapes.of_decodes(one) for window in self.lowering.model.windows}
        self._nothing = StepShapes.of(ONE_TOKEN, 1, windows)

    @cached_property
    def _folder(self) -> LockstepFolder:
        executors = [replica.executor for replica in self.replicas]
        return LockstepFolder(
            executors, self.lowering, self.lowering.lower(ONE_TOKEN, windows=self._nothing.windows).sequence
        )

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
        """Begin a step with those who have joined, and the others beside them."""
        self.is_under_way = True
        self.num_steps += 1
        dummy = self._dummy(next(iter(self._joined.values())).fractions)
        work = [self._joined.get(replica, dummy) for replica in self.replicas]
        for replica in self.replicas:
            replica.num_dummies += replica not in self._joined
        self._joined = {}
        tokens = [own.shape.num_tokens for own in work]
        rows, gathered = rows_together(tokens, self.max_num_seqs, self.lowering.layout)
        if self.folds(self.clock.now):
            results = self._folder.play(work, rows, gathered, self.clock.now)
            self.results = dict(zip(self.replicas, results, strict=True))
            self.clock.call_in(int(results[0].ends[0]) - self.clock.now, lambda _: self._end())
        else:
            playing = [self._play(*each, gathered) for each in zip(self.replicas, work, rows, strict=True)]
            self.clock.env.process(self._await([self.clock.env.process(process) for process in playing]))

    def _dummy(self, like: Sequence[FloatArray] | None) -> Work:
        """Return the work of a replica that has none, its KV alike on all channels."""
        fractions = None if like is None else [np.full_like(kind, 1.0 / kind.shape[1]) for kind in like]
        return Work(ONE_TOKEN, self._nothing, fractions)

    def _play(self, replica: Replica, work: Work, rows: int, gathered: int) -> Process:
        program = self.lowering.lower(work.shape, windows=work.shapes.windows)
        program = self.lowering.beside(program, rows, gathered)
        self.results[replica] = yield from replica.executor.run(program, kv_channels=work.fractions)

    def _await(self, processes: Iterable[simpy.Event]) -> Process:
        yield simpy.AllOf(self.clock.env, processes)
        end = self.clock.now
        for replica, result in self.results.items():
            result.attribution_ps[WAITING] += end - int(result.ends[0])
            self.results[replica] = replace(result, ends=np.array([end], dtype=np.int64))
        self._end()

    def _end(self) -> None:
        """End the step: all have computed theirs."""
        self.is_under_way = False
        over, self.over = self.over, self.clock.event()
        over.succeed()
