"""The paged KV cache, against one that is written the slow way."""

from collections import deque
from itertools import cycle
from math import ceil

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gpusim.serving.free_blocks import FreeBlocks
from gpusim.serving.planner import Horizon
from loads import KINDS, Load, loads
from planned import Planned, steps_of

CUTS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=9)
"""Steps that plans have at most, and steps after which they are cut."""


class SlowCache:
    """One list of free blocks, one list a request; everything step by step and block by block."""

    def __init__(self, load):
        self.free, self.block_size, self.tables, self.peak = deque(range(load.num_blocks)), load.block_size, {}, 0

    def hold(self, request, num_tokens):
        table = self.tables.setdefault(request, [])
        while len(table) * self.block_size < num_tokens:
            table.append(self.free.popleft())

    def release(self, request):
        self.free.extend(reversed(self.tables.pop(request)))

    def play(self, steps, reserve):
        """Let *steps* pass: each first serves its requests in order of admission, then releases who is finished."""
        for step in steps:
            for request in sorted({*step.tokens, *step.admitted}, key=lambda request: request.order):
                self.hold(request, max(step.tokens.get(request, 0), reserve.tokens(request)))
            self.peak = max(self.peak, sum(map(len, self.tables.values())))
            for request in step.finished:
                self.release(request)


def check(engine, slow):
    """Free + used = all, no block belongs to two, and every table, the peak and all free blocks are the slow cache's."""
    kv = engine.kv
    held = [block for table in slow.tables.values() for block in table]
    assert len(set(held)) == len(held) == kv.used
    assert kv.free.count() + kv.used == kv.num_blocks
    assert kv.free.count() == engine.roster.free_blocks == len(slow.free)
    assert kv.peak_used == slow.peak
    for request, table in slow.tables.items():
        assert kv.blocks_of(request, len(table) * kv.block_size).tolist() == table
    assert set(slow.tables) == {request for request in engine.roster.running if slow.tables.get(request)}


@settings(max_examples=250)
@given(load=loads() | loads(spare=60), kind=st.sampled_from(KINDS), cuts=CUTS)
def test_blocks_are_those_of_a_slow_cache(load, kind, cuts):
    """Plans that are cut anywhere, by any scheduler, leave the blocks that steps, played one by one, take and release."""
    engine = Planned(load, kind)
    load, slow = engine.load, SlowCache(engine.load)
    for horizon, cut in cycle(cuts):
        if engine.is_over:
            break
        outlook, planned = engine.plan(Horizon(horizon))
        steps = min(cut, outlook.num_steps)
        for request, _ in outlook.preempted:
            slow.release(request)
        engine.place(outlook)
        slow.play(steps_of(outlook)[:steps], engine.scheduler.reserve)
        engine.keep(outlook, planned, steps)
        event(f"cut: {steps < outlook.num_steps}, preempted: {bool(outlook.preempted)}, {kind}")
        event(f"swapped in: {bool(outlook.swapped_in)}, paused: {bool(outlook.pauses)}")
        check(engine, slow)
    assert engine.kv.used == engine.host.used == 0
    assert engine.kv.free.take(load.num_blocks).tolist() == list(slow.free)


@settings(max_examples=80)
@given(load=loads(spare=60), kind=st.sampled_from(KINDS), data=st.data())
def test_a_cut_run_leaves_no_trace(load, kind, data):
    """Planning n steps and keeping m of them is planning m: tables, peak, and the order of all blocks taken later."""
    done, left = data.draw(st.integers(1, 20)), []
    for asked in (done, 40):
        engine = Planned(load, kind)
        outlook, planned = engine.plan(Horizon(asked))
        engine.place(outlook)
        done = min(done, outlook.num_steps)
        engine.keep(outlook, planned, done)
        running = [engine.kv.blocks_of(r, engine.roster.cached(r)).tolist() for r in engine.roster.running]
        left.append((running, engine.kv.peak_used, engine.kv.free.take(engine.kv.free.count()).tolist()))
    assert left[0] == left[1]


def test_blocks_are_taken_in_the_order_of_steps_then_requests():
    """Of two requests the one whose block is full first takes first; in the same step the one admitted first does."""
    load = Load([(0, 2, 9), (0, 3, 9)], max_num_seqs=2, budget=9, num_blocks=10, block_size=4)
    engine = Planned(load, "continuous")
    outlook, planned = engine.plan(Horizon(7))
    engine.place(outlook)
    assert [steps_of(outlook)[6].tokens[request] for request in engine.requests] == [8, 9]
    engine.keep(outlook, planned, 7)
    late, early = (engine.kv.blocks_of(request, n).tolist() for request, n in zip(engine.requests, (8, 9), strict=True))
    assert (late, early) == ([0, 3], [1, 2, 4])


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_static_engine_reserves_all_blocks_at_admission(steps):
    """Prompt and all outputs but the last fit in from the first step on, however many steps were planned or kept."""
    load = Load([(0, 5, 9), (0, 3, 9), (0, 1, 1)], max_num_seqs=3, budget=9, num_blocks=20, block_size=4)
    engine = Planned(load, "static")
    outlook, planned = engine.plan(Horizon(steps))
    engine.place(outlook)
    engine.keep(outlook, planned, 1)
    assert [engine.kv.blocks_of(r, r.most_cached_tokens).tolist() for r in engine.requests[:2]] == [
        [0, 1, 2, 3],
        [4, 5, 6],
    ]
    assert engine.kv.peak_used == sum(ceil(n / 4) for n in (13, 11, 1))
    assert engine.kv.used == engine.kv.peak_used - 1, "the one of a single token is over"


def test_preempted_blocks_are_there_for_the_step_that_took_them():
    """What a victim held, last block first, is taken in the very step for which it was preempted, after all free ones."""
    load = Load([(0, 2, 9), (0, 4, 9)], max_num_seqs=2, budget=9, num_blocks=5, block_size=2)
    engine, seen = Planned(load, "continuous"), None
    while seen is None:
        outlook, planned = engine.plan(Horizon(1))
        before = [engine.kv.blocks_of(request, cached).tolist() for request, cached in outlook.preempted]
        engine.place(outlook)
        engine.keep(outlook, planned, 1)
        if outlook.preempted:
            first = engine.requests[0]
            seen = before[0], engine.kv.blocks_of(first, engine.roster.cached(first)).tolist()
    assert seen == ([1, 2, 4], [0, 3, 4])
    assert engine.kv.peak_used == 5


def test_a_large_pool_costs_nothing():
    """Blocks are numbered when they are taken: a pool of 10¹² is as quick as one of ten."""
    free = FreeBlocks(10**12)
    free.release(free.take(3).tolist()[::-1])
    assert free.take(2).tolist() == [3, 4]
    assert free.count() == 10**12 - 2


@given(st.lists(st.integers(0, 700), max_size=12))
def test_the_queue_grows_and_goes_round(counts):
    """Through any sequence of takes and releases of many blocks the free ones stay a first-in, first-out queue."""
    free, slow = FreeBlocks(1000), deque(range(1000))
    for count in counts:
        taken = free.take(count).tolist()
        assert taken == [slow.popleft() for _ in range(count)]
        free.release(taken[::-1])
        slow.extend(taken[::-1])
    assert free.take(1000).tolist() == list(slow)
