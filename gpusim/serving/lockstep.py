"""Engines that share experts: each with its own requests, blocks and decisions, all in step."""

from __future__ import annotations

from typing import Any, Final

from gpusim.core.component import Process
from gpusim.runtime.lockstep import Replica
from gpusim.serving.engine import Engine
from gpusim.serving.planner import Horizon

ONE_STEP: Final = Horizon(steps=1, decisions=1)
"""Others decide between any two steps."""


class LockstepEngine(Engine):
    """One of several replicas that share experts.

    An engine whose requests are over still takes part in the others' steps, and decides again when such a step is over.

    Args:
        replica: Its part in the steps of all.
        options: Of `Engine`; without folding, which is the replicas' affair.
    """

    def __init__(self, *args: Any, replica: Replica, **options: Any) -> None:
        super().__init__(*args, executor=replica, folding=None, horizon=ONE_STEP, **options)
        self.replica = replica

    def _wait_for_arrival(self) -> Process:
        yield from super()._wait_for_arrival()
        yield from self.replica.between_steps()
