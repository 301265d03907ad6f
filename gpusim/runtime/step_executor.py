"""The executor of `detail: step`: many steps are one wait.

Identical ranks, identical layers and consecutive steps are folded: each kernel's time is a law of its work, rounded to the
clock, and a step is the sum. Without foreign traffic `KernelExecutor` takes the same times, bit for bit, because it plays
rows of the same laws. Beside foreign traffic of constant rate steps pass piece by piece (`gpusim.runtime.passing`); an
engine whose channels or links others use otherwise must not be folded (`gpusim.runtime.foreign`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import simpy

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.core.clock import Clock
from gpusim.hardware.fabric import Fabric
from gpusim.hardware.gpu import Gpu
from gpusim.model.step import StepShapes
from gpusim.runtime.accounts import account_steps
from gpusim.runtime.attribution import WAITING
from gpusim.runtime.folding import FoldedSteps, Folder
from gpusim.runtime.foreign_load import IDLE
from gpusim.runtime.foreign_timeline import NEVER, ForeignTimeline
from gpusim.runtime.passing import Passing


class StepExecutor:
    """Series of steps as single waits, cut at step boundaries.

    Args:
        clock: Of the simulation.
        gpus: The ranks, in order; all of one kind.
        fabric: That connects them.
        folder: Times the steps.
        foreign: Traffic of constant rate on what the engine uses; None: there is none.
    """

    def __init__(
        self,
        clock: Clock,
        gpus: Sequence[Gpu],
        fabric: Fabric,
        folder: Folder,
        foreign: ForeignTimeline | None = None,
    ) -> None:
        self.clock = clock
        self.gpus = tuple(gpus)
        self.fabric = fabric
        self.folder = folder
        self.foreign = foreign
        self._ends: IntArray | None = None
        self._over = clock.event()
        self._steps = 0

    def time(
        self, shapes: StepShapes, kv_peak: Sequence[FloatArray] | None, now: int, wakes: Mapping[int, int]
    ) -> FoldedSteps:
        """Time steps; see `Folder.time`. Foreign traffic, if there is any, makes them wait."""
        folded = self.folder.time(shapes, kv_peak, now, wakes)
        foreign = self.foreign
        if foreign is None or foreign.at(now) == (IDLE, NEVER):
            return folded
        foreign.forget(now)
        host_ticks = self.folder.timer.host.ticks(shapes.num_sampled)
        passing = Passing(foreign, lambda load: self.folder.loaded_ticks(shapes, kv_peak, load), host_ticks)
        ends = passing.ends(len(folded.ticks), now, wakes)
        starts = np.concatenate(([now], ends[:-1]))
        for step, tick in wakes.items():
            starts[step] = max(tick, int(starts[step]))
        ticks, attribution_ps = ends - starts, folded.attribution_ps.copy()
        attribution_ps[:, WAITING] += ticks - folded.ticks
        return replace(folded, ticks=ticks, attribution_ps=attribution_ps, starts=starts, ends=ends)

    def run(
        self, folded: FoldedSteps, steps: int, kv_read: Sequence[IntArray] | None
    ) -> Generator[simpy.Event, Any, int]:
        """Wait for the first *steps* of the steps, or up to the one during which `cut` is called.

        Args:
            folded: The steps.
            steps: At least one.
            kv_read: (steps, channels) of each kind of KV, see `account_steps`; None: alike on all channels.

        Returns:
            How many steps there were.
        """
        self._ends = folded.ends[:steps]
        self._over = self.clock.event()
        self._end_with(steps)
        yield self._over
        self._ends = None
        account_steps(folded, slice(self._steps), kv_read, timer=self.folder.timer, gpus=self.gpus, fabric=self.fabric)
        return self._steps

    def cut(self, *, in_flight: int = 0) -> None:
        """See `Executor.cut`; a cut in the very tick of a boundary ends the run there."""
        if self._ends is None:
            return
        steps = int(np.searchsorted(self._ends, self.clock.now)) + 1 + in_flight
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
