"""An engine without a machine: it plans, places and commits, and a test says how long steps take and what is cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gpusim.core.arrays import IntArray
from gpusim.core.clock import Clock
from gpusim.hardware.channel_map import ChannelMap
from gpusim.model.window import KvKind, Windows, WindowShapes
from gpusim.results.step_log import StepLog
from gpusim.runtime.attribution import CATEGORIES
from gpusim.runtime.folding import back_to_back
from gpusim.serving.batch import Batch
from gpusim.serving.commit import Advance, Commit, Played
from gpusim.serving.feed import Feed
from gpusim.serving.host_blocks import HostBlocks
from gpusim.serving.kv_cache import KvCache, Tenures
from gpusim.serving.kv_channels import KvChannels
from gpusim.serving.outlook import Outlook
from gpusim.serving.planner import Horizon, Planner
from gpusim.serving.prefix_cache import PrefixCache
from gpusim.serving.request import Request
from gpusim.serving.roster import Roster
from loads import Load

TICKS = 1000
"""Of a step, unless a test says otherwise."""
BLOCK_TICKS = 70
"""Of a block that is swapped."""


@dataclass
class Step:
    """What one step of an outlook computes; requests in order of their admission."""

    decoding: list[Request]
    chunks: list[tuple[Request, int, int]]
    admitted: list[Request]
    finished: list[Request]
    tokens: dict[Request, int]
    """Tokens in the cache after it, of those that take part."""


class Expected:
    """A forecast of steps that all take the same ticks."""

    def __init__(self, ticks: int) -> None:
        self.ticks = ticks

    def begin(self, decoding: Iterable[Request]) -> None:
        """Which requests decode does not matter."""

    def look_at(self, batch: Batch, step: int) -> None:
        """Nor what is computed."""

    def step(self, *_shape: float) -> float:
        """Return the ticks of one step."""
        return self.ticks

    def decodes(self, _num_decodes: int, _context: int, steps: int, left: float | None) -> tuple[int, float]:
        """Return how many of *steps* steps begin within *left* ticks, and what they take; see `Forecast.decodes`."""
        number = steps if left is None else min(steps, max(1, math.ceil(left / max(self.ticks, 1e-9))))
        return number, number * self.ticks


class Planned:
    """Requests of a load on an engine whose steps take the ticks that *duration* returns for each one's number."""

    def __init__(
        self,
        load: Load,
        kind: str,
        *,
        duration: Callable[[int], int] = lambda _: TICKS,
        expected: int = TICKS,
        channels: tuple[ChannelMap, Sequence[KvKind]] | None = None,
        ticks: int = TICKS,
        lags: bool = False,
    ) -> None:
        load = load.fit(kind)
        self.load, self.duration = load, duration
        self.scheduler = load.scheduler(kind)
        self.feed = Feed(Clock(), refill=lambda: False, refuse=lambda _: None, is_open=True)
        self.requests = load.requests(ticks=ticks)
        for request in self.requests:
            self.feed.put(request)
        self.planner = Planner(self.scheduler, self.feed, Expected(expected), lags=lags)
        prefix = None if load.contents is None else PrefixCache(load.num_blocks, load.block_size)
        self.kv = KvCache(load.num_blocks, load.block_size, reserve=self.scheduler.reserve, prefix=prefix)
        self.channels = None if channels is None else KvChannels(*channels, self.kv)
        self.log = StepLog("engine")
        self.host = HostBlocks(load.host_blocks, load.block_size)
        self.commit = Commit(self.kv, self.channels, self.log, self.host)
        self.roster = load.roster(self.scheduler, prefix, lags=lags)
        self.now = 0

    @property
    def is_over(self) -> bool:
        """Tell whether all requests are."""
        return self.roster.is_idle and not self.feed.requests

    def plan(self, horizon: Horizon) -> tuple[Outlook, Roster]:
        """Plan from now on; return the steps and the roster after them."""
        if self.roster.is_idle:
            self.now = max(self.now, self.feed.next_tick())
        planned = self.roster.copy()
        return self.planner.look_ahead(planned, self.now, horizon), planned

    def place(self, outlook: Outlook) -> list[IntArray] | None:
        """Give the steps their blocks; return what they read on each channel."""
        self.commit.preempt(outlook, self.now)
        tenures = Tenures.of(outlook)
        self.kv.take(outlook, tenures)
        return None if self.channels is None else self.channels.look_ahead(outlook, tenures)

    def moved(self, outlook: Outlook) -> int:
        """Return the ticks that swapped blocks move before the first step."""
        return BLOCK_TICKS * self.host.count([*outlook.swapped_out, *outlook.swapped_in])

    def times(self, outlook: Outlook) -> tuple[IntArray, IntArray]:
        """Return the starts and the ends of the steps."""
        durations = [self.duration(outlook.first_step + step) for step in range(outlook.num_steps)]
        return back_to_back(np.array(durations), self.now + self.moved(outlook), outlook.wakes)

    def keep(self, outlook: Outlook, planned: Roster, steps: int, read: list[IntArray] | None = None) -> list[Request]:
        """Commit the first *steps* steps; return who is finished."""
        starts, ends = self.times(outlook)
        if steps < outlook.num_steps:
            planned = self.planner.replay(self.roster, outlook, steps)
        attribution_ps = np.zeros((steps, len(CATEGORIES)), dtype=np.int64)
        attribution_ps[:, 0] = [self.duration(outlook.first_step + step) for step in range(steps)]
        runs = outlook.runs()
        played = Played(starts[runs.first], ends[:steps], attribution_ps, 0).after(self.moved(outlook))
        advance = Advance(outlook, runs, planned, played, read)
        finished = self.commit.run(advance)
        self.kv.settle(planned)
        planned.fixed = advance.last_start
        self.roster, self.now = planned, int(ends[steps - 1])
        fixed = planned.fixed if planned.lags else self.now
        self.feed.take(outlook.num_joined - planned.part(lambda request: request.arrival > fixed))
        if planned.leaving and planned.is_idle and not self.feed.has_arrived(planned.fixed):
            self.commit.let_go(planned)
            self.kv.settle(planned)
        return [request for _, request in finished]

    def play_on(self, horizon: Horizon) -> int:
        """Plan, and commit all steps that are confirmed; return how many were planned in vain."""
        outlook, planned = self.plan(horizon)
        read = self.place(outlook)
        right = self.planner.confirmed(outlook, self.times(outlook)[0], self.roster.fixed)
        self.keep(outlook, planned, right, read)
        return outlook.num_steps - right

    def tokens(self) -> list[list[int]]:
        """Return the ticks of all tokens of each request."""
        ends = self.log.ends.tolist()
        return [[t for a, b in request.segments for t in ends[a : b + 1]] for request in self.requests]


def steps_of(outlook: Outlook) -> list[Step]:
    """Write out every step of *outlook* from its events, token by token."""
    cached = {request: request.cached_before(outlook.first_round) for request in outlook.decoding}
    steps = []
    for step in range(outlook.num_steps):
        for at, request in outlook.begun:
            if at == step:
                cached[request] = request.target
        decodes = [] if step in outlook.pauses else sorted(cached, key=lambda request: request.order)
        for request in decodes:
            cached[request] += 1
        chunks = [(r, computed, new) for at, r, computed, new in outlook.chunks if at == step]
        finished = [request for at, request in outlook.finished if at == step]
        tokens = {r: cached[r] for r in decodes} | {request: computed + new for request, computed, new in chunks}
        admitted = [request for at, request in outlook.admitted if at == step]
        steps.append(Step(decodes, chunks, admitted, finished, tokens))
        for request in finished:
            cached.pop(request, None)
    return steps


def windows_of_step(step: Step, windows: Sequence[int]) -> Windows:
    """Count what one step reads through each window, request by request and query by query."""
    chunks = [(computed, computed + new) for _, computed, new in step.chunks]
    shapes = {}
    for window in windows:
        attended = [[range(max(0, i + 1 - window), i + 1) for i in range(*span)] for span in chunks]
        decode = sum(min(step.tokens[request], window) for request in step.decoding)
        context = sum(len(set().union(*queries)) for queries in attended)
        pairs = sum(len(keys) for queries in attended for keys in queries)
        shapes[window] = WindowShapes(np.array([decode]), np.array([context]), np.array([float(pairs)]))
    return shapes
