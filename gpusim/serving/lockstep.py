"""Engines that share experts: each with its own requests, blocks and decisions, all in step."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

import simpy

from gpusim.core.arrays import IntArray
from gpusim.core.component import Process
from gpusim.runtime.executor import RunResult
from gpusim.runtime.lockstep import Replica
from gpusim.runtime.lockstep_folding import Work
from gpusim.serving.advance import KernelAdvancer, fractions_of, shape_of
from gpusim.serving.blocks import Blocks
from gpusim.serving.engine import Engine
from gpusim.serving.feed import Feed
from gpusim.serving.outlook import Outlook, RunColumns
from gpusim.serving.planner import Horizon
from gpusim.serving.schedulers import Scheduler
from gpusim.serving.windows import windows_of

ONE_STEP: Final = Horizon(steps=1, decisions=1)
"""Others decide between any two steps."""


class LockstepAdvancer(KernelAdvancer):
    """One step at a time, together with other replicas.

    Args:
        scheduler: Decides batches.
        feed: Brings requests.
        blocks: For the steps.
        replica: Takes part in the steps of all.
        options: Of `KernelAdvancer`.
    """

    def __init__(self, scheduler: Scheduler, feed: Feed, blocks: Blocks, *, replica: Replica, **options: Any) -> None:
        super().__init__(scheduler, feed, blocks, executor=replica.executor, horizon=ONE_STEP, **options)
        self._replica = replica

    def _play(
        self, outlook: Outlook, runs: RunColumns, read: Sequence[IntArray] | None
    ) -> Generator[simpy.Event, Any, RunResult]:
        shapes = outlook.shapes(runs, windows_of(outlook, runs, self._windows))
        return (yield from self._replica.run(Work(shape_of(outlook), shapes, fractions_of(read))))


class LockstepEngine(Engine):
    """One of several replicas that share experts.

    An engine whose requests are over still takes part in the others' steps, and decides again when such a step is over.

    Args:
        replica: Its part in the steps of all.
        options: Of `Engine`; without folding, which is the replicas' affair.
    """

    def __init__(self, *args: Any, replica: Replica, **options: Any) -> None:
        super().__init__(*args, executor=replica.executor, folding=None, **options)
        self.replica = replica

    def _kernel_advancer(self, *parts: Any) -> KernelAdvancer:
        return LockstepAdvancer(
            *parts, replica=self.replica, lowering=self.lowering, clock=self.clock, lags=self.roster.lags
        )

    def _wait_for_arrival(self) -> Process:
        yield from super()._wait_for_arrival()
        yield from self.replica.between_steps()
