"""Swapping, without a machine: blocks of GPUs and hosts, who comes back when, and that nothing is computed twice."""

from dataclasses import replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gpusim.serving.planner import Horizon
from loads import Load, loads, shared_loads
from planned import Planned


def play(load, horizon=40):
    """Play *load* in plans; check blocks after each; return the engine and how often each was swapped and recomputed."""
    engine = Planned(load, "continuous")
    swapped, preempted = 0, 0
    while not engine.is_over:
        outlook, planned = engine.plan(Horizon(horizon))
        moves = outlook.swapped_out or outlook.swapped_in
        # Blocks move one way at a time, before a plan of one step, in which nobody is admitted past the swapped.
        assert not (outlook.swapped_out and outlook.swapped_in)
        assert not moves or outlook.num_steps == 1
        assert not (engine.roster.swapped and outlook.admitted) or outlook.swapped_in
        engine.place(outlook)
        right = engine.planner.confirmed(outlook, engine.times(outlook)[0], engine.roster.fixed)
        engine.keep(outlook, planned, right)
        check(engine)
        swapped += len(outlook.swapped_out)
        preempted += len(outlook.preempted)
    return engine, swapped, preempted - swapped


def check(engine):
    """Blocks are free or held, on the GPU and in host memory; of a swapped request all that it has computed is there."""
    roster, host, kv = engine.roster, engine.host, engine.kv
    holes = [] if kv.prefix is None else kv.prefix.holes
    assert roster.free_blocks == kv.free.count(holes)
    assert roster.free_host_blocks == host.free.count()
    held = [block for blocks in host.held.values() for block in blocks.tolist()]
    assert len(set(held)) == len(held) == host.used
    assert host.held.keys() == roster.swapped.keys()
    for request, cached in roster.swapped.items():
        assert len(host.held[request]) == kv.blocks_for(cached)
        assert request.preempted_at is not None
        assert 0 < cached <= request.target
    waiting = [(request.arrival, request.index) for request in roster.swapped]
    assert waiting == sorted(waiting)


@settings(max_examples=200)
@given(load=loads(), host_blocks=st.sampled_from([1, 3, 8, 99]), horizon=st.sampled_from([1, 40]))
def test_blocks_are_conserved(load, host_blocks, horizon):
    """Whatever the load, every block is in one place, and all are free at the end; with room for all nobody recomputes."""
    engine, swapped, recomputed = play(replace(load, host_blocks=host_blocks), horizon)
    event(f"swapped: {swapped > 0}, recomputed: {recomputed > 0}")
    assert engine.kv.used == engine.host.used == 0
    assert engine.host.blocks_out == engine.host.blocks_in
    assert engine.host.num_swaps == swapped
    assert not recomputed or host_blocks < 99
    computed = engine.log.total("num_decodes") + engine.log.total("num_prefill_tokens")
    needed = sum(prompt + output - 1 for _, prompt, output in load.arrivals)
    assert computed > needed if recomputed else computed == needed
    assert [len(got) for got in engine.tokens()] == [output for *_, output in load.arrivals]


@settings(max_examples=100)
@given(load=shared_loads(), host_blocks=st.sampled_from([3, 99]))
def test_blocks_that_were_shared_are_conserved(load, host_blocks):
    """Who shared blocks with others takes a copy of them along, and comes back with blocks of its own."""
    engine, swapped, _ = play(replace(load, host_blocks=host_blocks))
    event(f"swapped: {swapped > 0}")
    assert engine.kv.used == engine.host.used == 0
    assert [len(got) for got in engine.tokens()] == [output for *_, output in load.arrivals]


@pytest.mark.parametrize(("watermark", "back_after"), [(0, 0), (2, 0), (3, 2)])
def test_who_comes_back_leaves_the_watermark(watermark, back_after):
    """A request with 2 blocks and a token for a third comes back to 3 + watermark free blocks, or once nobody runs."""
    load = Load([(0, 1, 3), (0, 4, 4)], 2, 9, 6, 2, host_blocks=9, watermark_blocks=watermark)
    engine = Planned(load, "continuous")
    first, second = engine.requests
    roster = load.roster(load.scheduler("continuous"))
    roster.waiting.extend([first, second])
    roster.advance(engine.scheduler.next_batch(roster), 1)
    assert roster.preempt(second) == 4
    second.first_decode = second.prompt_step = -1
    assert (roster.free_blocks, roster.free_host_blocks) == (5, 7)
    for step in range(back_after):
        batch = engine.scheduler.next_batch(roster)
        assert not batch.swapped_in, f"{roster.free_blocks} blocks are free before step {step}"
        roster.advance(batch, 1)
    assert engine.scheduler.next_batch(roster).swapped_in == [(second, 4)]
    assert roster.swapped == {}
