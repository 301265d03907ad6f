"""How an engine gets on: it plans, places, plays; folded over many steps, or kernel by kernel over one run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, Protocol

import numpy as np
import simpy

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.core.clock import ARRIVAL, Clock
from gpusim.model.lower import Lowering
from gpusim.model.step import BatchShape, StepShapes
from gpusim.runtime.executor import Executor, RunResult
from gpusim.runtime.folding import FoldedSteps
from gpusim.runtime.step_executor import StepExecutor
from gpusim.serving.blocks import Blocks
from gpusim.serving.commit import Advance, Played
from gpusim.serving.feed import Feed
from gpusim.serving.forecast import Forecast
from gpusim.serving.outlook import Outlook, RunColumns
from gpusim.serving.planner import Horizon, Planner
from gpusim.serving.roster import Roster
from gpusim.serving.schedulers import Scheduler
from gpusim.serving.windows import windows_of

ONE_RUN: Final = Horizon(steps=32, decisions=1)
"""What kernel detail is given at a time; bounds the memory of the steps' KV histograms."""
FEWEST_STEPS: Final = 8
MOST_STEPS: Final = 250
"""Steps planned ahead at step detail: few where guesses of arrivals fail, many where they hold. No power of two: columns
of a histogram over 256 steps would all fall into the same few cache sets."""
LEARN_EVERY: Final = 4
"""Outlooks from one fit of the forecast to the next: what it is off by changes slowly."""
_FAR: Final = 1 << 62
"""Ticks of a wait that is for ever."""


class Advancer(Protocol):
    """Plays the next steps of an engine."""

    def run(self, roster: Roster, until: int) -> Generator[simpy.Event, Any, Advance]:
        """Play steps from *roster* on, none of which starts at tick *until* or later; at least one."""
        ...

    def cut(self) -> None:
        """Play no step after the one under way."""
        ...


class StepAdvancer:
    """Many steps planned ahead, timed at once, and waited for together.

    Args:
        scheduler: Decides batches.
        feed: Brings requests.
        blocks: For the steps.
        executor: Times them.
        lags: Whether a batch is fixed when the step before it starts.
    """

    def __init__(
        self, scheduler: Scheduler, feed: Feed, blocks: Blocks, executor: StepExecutor, *, lags: bool = False
    ) -> None:
        self._windows = executor.folder.lowering.model.windows
        self._feed = feed
        self._forecast = Forecast(executor.folder, self._windows)
        self._planner = Planner(scheduler, feed, self._forecast, lags=lags)
        self._blocks = blocks
        self._executor = executor
        self._reach = FEWEST_STEPS
        self._num_outlooks = 0

    def run(self, roster: Roster, until: int) -> Generator[simpy.Event, Any, Advance]:
        """See `Advancer.run`."""
        now, planned = self._executor.clock.now, roster.copy()
        outlook = self._planner.look_ahead(planned, now, Horizon(self._reach))
        read = self._blocks.place(outlook)
        moved = yield from self._blocks.move(outlook)
        runs = outlook.runs()
        shapes = outlook.shapes(runs, windows_of(outlook, runs, self._windows))
        kv_peak = None if read is None else [kind.max(axis=1) / kind.sum(axis=1) for kind in read]
        folded = self._executor.time(shapes, kv_peak, now + moved, outlook.wakes)
        self._learn(shapes, folded)
        starts = folded.starts[runs.first]
        right = self._planner.confirmed(outlook, folded.starts, roster.fixed)
        # The first step was decided in time, whatever it waited for.
        right = max(1, min(right, int(np.searchsorted(folded.starts, until))))
        # Nothing cuts steps where all arrivals are known; who is over in them is then known before they pass.
        is_sure = self._feed.is_open
        if is_sure:
            planned = self._leave(roster, planned, outlook, folded.ends[:right])
        steps = yield from self._executor.run(folded, right, read)
        if not is_sure:
            planned = self._leave(roster, planned, outlook, folded.ends[:steps])
        self._learn_reach(outlook, right)
        played = Played(starts, folded.ends[:steps], folded.attribution_ps[:steps], int(folded.bound_ps[:steps].sum()))
        return Advance(outlook, runs, planned, played.after(moved), read)

    def cut(self) -> None:
        """See `Advancer.cut`."""
        self._executor.cut(in_flight=int(self._planner.lags))

    def _leave(self, roster: Roster, planned: Roster, outlook: Outlook, ends: IntArray) -> Roster:
        """Return the roster after the steps with these *ends*; host memory keeps what they leave."""
        if len(ends) < outlook.num_steps:
            planned = self._planner.replay(roster, outlook, len(ends))
        self._blocks.keep(outlook, ends)
        return planned

    def _learn(self, shapes: StepShapes, folded: FoldedSteps) -> None:
        if self._num_outlooks % LEARN_EVERY == 0:
            self._forecast.learn(shapes, folded.attention_ticks)
        self._num_outlooks += 1

    def _learn_reach(self, outlook: Outlook, right: int) -> None:
        """Look further ahead while guesses hold, less far where they did not."""
        reach = 2 * self._reach if right == outlook.num_steps else max(right, self._reach * 3 // 4)
        self._reach = min(MOST_STEPS, max(FEWEST_STEPS, reach))


class KernelAdvancer:
    """One run of steps at a time, played kernel by kernel until it is over or a request arrives that could join.

    Args:
        scheduler: Decides batches.
        feed: Brings requests.
        blocks: For the steps.
        lowering: Turns batches into programs.
        executor: Plays them.
        clock: Of the simulation.
        lags: Whether a batch is fixed when the step before it starts.
        horizon: How far it plans at a time; one decision in any case.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        feed: Feed,
        blocks: Blocks,
        *,
        lowering: Lowering,
        executor: Executor,
        clock: Clock,
        lags: bool = False,
        horizon: Horizon = ONE_RUN,
    ) -> None:
        self._planner = Planner(scheduler, feed, None, lags=lags)
        self._feed = feed
        self._blocks = blocks
        self._lowering = lowering
        self._windows = lowering.model.windows
        self._executor = executor
        self._clock = clock
        self._horizon = horizon
        self._cuts: set[int] = set()
        """Ticks of cuts to come."""

    def run(self, roster: Roster, until: int) -> Generator[simpy.Event, Any, Advance]:
        """See `Advancer.run`."""
        planned = roster.copy()
        outlook = self._planner.look_ahead(planned, self._clock.now, self._horizon)
        read = self._blocks.place(outlook)
        runs = outlook.runs()
        self._cut_when(outlook, until)
        moved = yield from self._blocks.move(outlook)
        result = yield from self._play(outlook, runs, read)
        steps = len(result.ends)
        if steps < outlook.num_steps:
            planned = self._planner.replay(roster, outlook, steps)
        self._blocks.keep(outlook, result.ends)
        played = Played(np.array([result.start]), result.ends, result.attribution_ps[None], result.bound_ps)
        return Advance(outlook, runs, planned, played.after(moved), read, is_by_kernel=not result.is_folded)

    def _play(
        self, outlook: Outlook, runs: RunColumns, read: Sequence[IntArray] | None
    ) -> Generator[simpy.Event, Any, RunResult]:
        windows = windows_of(outlook, runs, self._windows)
        program = self._lowering.lower(shape_of(outlook), outlook.num_steps, windows)
        return (yield from self._executor.run(program, kv_channels=fractions_of(read)))

    def cut(self) -> None:
        """See `Advancer.cut`."""
        self._executor.cut(in_flight=int(self._planner.lags))

    def _cut_when(self, outlook: Outlook, until: int) -> None:
        """End the run with the step under way at tick *until*, or when a request arrives that could join."""
        joined, ticks = outlook.joined[0], self._feed.ticks
        if outlook.open_to[0] and joined < len(ticks):
            # Who came before the first step, but after its batch was fixed, joins the second.
            self._cut_at(ticks[joined], self.cut if ticks[joined] > self._clock.now else self._executor.cut)
        self._cut_at(until, self._executor.cut)

    def _cut_at(self, tick: int, cut: Callable[[], None]) -> None:
        """Call *cut* at *tick*, or now if that is over; a cut for which there is no reason any more does no harm."""
        left = max(0, tick - self._clock.now)
        self._cuts = {later for later in self._cuts if later > self._clock.now}
        if left < _FAR and tick not in self._cuts:
            self._cuts.add(tick)
            self._clock.call_in(left, lambda _: cut(), priority=ARRIVAL)


def fractions_of(read: Sequence[IntArray] | None) -> list[FloatArray] | None:
    """Return the part of each kind's bytes that lies on each channel, row by row."""
    if read is None:
        return None
    return [np.ascontiguousarray(kind / kind.sum(axis=1, keepdims=True)) for kind in read]


def shape_of(outlook: Outlook) -> BatchShape:
    """Return what the first step of *outlook* computes."""
    chunks = tuple((tokens, computed + tokens) for _, _, computed, tokens in outlook.chunks)
    return BatchShape(
        num_decodes=outlook.num_decodes[0],
        decode_context=outlook.decode_context[0],
        chunks=chunks,
        num_sampled=outlook.num_decodes[0] + outlook.completed[0],
        longest_decode=outlook.longest_decode[0],
    )
