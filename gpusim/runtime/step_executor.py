"""The executor of `detail: step`: a whole run of steps is one wait.

Identical ranks, identical layers and consecutive steps of an unchanged batch are folded: each kernel's time is a law of
its work, rounded to the clock, and a run is the sum. Without foreign traffic `KernelExecutor` takes the same times, bit
for bit, because it plays the same `TimedProgram`; an engine whose channels or links others use too must not be folded
(`gpusim.runtime.foreign`).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

import numpy as np
import simpy

from gpusim.core.clock import Clock, FloatArray, IntArray
from gpusim.hardware.fabric import Fabric
from gpusim.hardware.gpu import Gpu
from gpusim.model.work import StepProgram
from gpusim.runtime.accounting import account_run
from gpusim.runtime.executor import RunResult
from gpusim.runtime.program import ProgramTimer


class StepExecutor:
    """Runs of steps as single waits, cut at step boundaries.

    Args:
        clock: Of the simulation.
        gpus: The ranks, in order; all of one kind.
        fabric: That connects them.
        timer: Times the programs.
    """

    def __init__(self, clock: Clock, gpus: Sequence[Gpu], fabric: Fabric, timer: ProgramTimer) -> None:
        self.clock = clock
        self.gpus = tuple(gpus)
        self.fabric = fabric
        self.timer = timer
        self._ends: IntArray | None = None
        self._over = clock.event()
        self._steps = 0

    def run(
        self, program: StepProgram, *, kv_channels: FloatArray | None = None
    ) -> Generator[simpy.Event, Any, RunResult]:
        """See `Executor.run`."""
        timed = self.timer.time(program, kv_channels)
        start = self.clock.now
        self._ends = start + np.cumsum(timed.step_ticks)
        self._over = self.clock.event()
        self._end_with(program.steps)
        yield self._over
        ends, self._ends = self._ends[: self._steps], None
        account_run(timed, self._steps, self.gpus, self.fabric, self.timer.remote)
        return RunResult(
            start,
            ends,
            timed.attribution_s[: self._steps].sum(axis=0),
            float(timed.bound_s[: self._steps].sum()),
        )

    def cut(self) -> None:
        """See `Executor.cut`; a cut in the very tick of a boundary ends the run there."""
        if self._ends is None:
            return
        steps = int(np.searchsorted(self._ends, self.clock.now)) + 1
        if steps < self._steps:
            self._end_with(steps)

    def _end_with(self, steps: int) -> None:
        """Have the run end with its *steps*-th step, from what is known now."""
        assert self._ends is not None, "only a run that is being played has an end"
        self._steps = steps
        wake = self.clock.timeout(int(self._ends[steps - 1]) - self.clock.now)
        assert wake.callbacks is not None
        wake.callbacks.append(partial(self._wake, self._over, steps))

    def _wake(self, over: simpy.Event, steps: int, _: simpy.Event) -> None:
        """End the run, unless it was cut to fewer steps or is long over."""
        if over is self._over and steps == self._steps and not over.triggered:
            over.succeed()
