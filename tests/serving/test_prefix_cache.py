"""Prefix caching against vLLM's rules written out block by block."""

from itertools import cycle

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gpusim.serving.planner import Horizon
from gpusim.serving.prefix_keys import block_keys
from loads import Load, shared_loads
from planned import TICKS, Planned, steps_of
from vllm_blocks import CUTS, SlowEngine, check_blocks, computed_in


def play(engine, slow, cuts):
    """Play *engine* in plans that are cut, and compare every step with *slow*."""
    for horizon, cut in cuts:
        if engine.is_over:
            return
        outlook, planned = engine.plan(Horizon(horizon))
        engine.place(outlook)
        steps = min(cut, outlook.num_steps)
        starts = [engine.now, *engine.times(outlook)[1].tolist()]
        for number, step in enumerate(steps_of(outlook)[:steps]):
            now = max(starts[number], outlook.wakes.get(number, 0))
            chunks, lost = slow.step(now // TICKS)
            assert computed_in(step) == chunks
            assert lost == ([request.index for request, _ in outlook.preempted] if not number else [])
        engine.keep(outlook, planned, steps)
        check_blocks(engine, slow)


@settings(max_examples=300)
@given(load=shared_loads() | shared_loads(spare=40, longest=30), cuts=CUTS, is_tidy=st.booleans())
def test_every_step_is_that_of_vllm(load, cuts, is_tidy):
    """Hits, chunks, preemptions, tables, free blocks and what is evicted: as of blocks written out one by one."""
    engine, slow = Planned(load, "continuous"), SlowEngine(load)
    if is_tidy:
        engine.kv.most_holes = 0
    play(engine, slow, cycle(cuts))
    left = engine.kv.free.take(load.num_blocks, engine.kv.prefix.holes).tolist()
    assert left == [block.number for block in slow.pool.free]
    first = [sequence.first_hit for sequence in sorted(slow.over, key=lambda sequence: sequence.index)]
    assert [request.cached_tokens for request in engine.requests] == first
    assert engine.commit.hit_tokens == sum(first)
    event(f"hits: {any(first)}, resumed with hits: {any(s.hit > s.first_hit for s in slow.over)}")


def test_a_plan_given_up_loses_no_keys():
    """A request that was preempted finds its own blocks again, also if a plan in which it was over is taken back."""
    load = Load([(0, 1, 1), (0, 1, 1), (0, 1, 3), (0, 1, 4)], 2, 2, 4, 1, [()] * 4)
    play(Planned(load, "continuous"), SlowEngine(load), cycle([(2, 1)]))


@settings(max_examples=50)
@given(load=shared_loads(spare=3), cuts=CUTS)
def test_what_is_gone_is_forgotten(load, cuts):
    """When every block was taken for something else, nothing of what was known is kept."""
    engine = Planned(load, "continuous")
    for horizon, cut in cycle(cuts):
        if engine.is_over:
            break
        outlook, planned = engine.plan(Horizon(horizon))
        engine.place(outlook)
        engine.keep(outlook, planned, min(cut, outlook.num_steps))
    prefix = engine.kv.prefix
    assert len(prefix._known) <= load.num_blocks
    prefix.settle(0)
    assert not len(prefix._known)
    assert not prefix._held
    assert not prefix._growing
    assert not prefix.holes


def test_a_repeated_prompt_computes_its_last_block_only():
    """Of 100 tokens in blocks of 16, 96 are there; the second time all but the last token may be, so 16 of 32 are."""
    for tokens, hit in ((100, 96), (32, 16), (33, 32), (16, 0)):
        load = Load([(0, tokens, 2), (9, tokens, 2)], 2, 999, 99, 16, [((7, tokens),)] * 2)
        engine = Planned(load, "continuous")
        while not engine.is_over:
            engine.play_on(Horizon(64))
        assert [request.cached_tokens for request in engine.requests] == [0, hit]
        assert (engine.commit.queried_tokens, engine.commit.hit_tokens) == (2 * tokens, hit)


def test_a_turn_finds_what_the_last_one_generated():
    """The second turn begins with the first's prompt and output, of which the last token was never computed."""
    load = Load([(0, 20, 13), (90, 50, 2)], 2, 999, 99, 4, [((7, 33),), ((7, 52),)])
    engine = Planned(load, "continuous")
    while not engine.is_over:
        engine.play_on(Horizon(64))
    assert engine.requests[1].cached_tokens == 32


def test_two_that_come_together_share_at_once():
    """A block is known as soon as the step that fills it is scheduled, so the second of two alike computes little."""
    load = Load([(0, 65, 2), (0, 65, 2)], 2, 999, 99, 16, [((7, 65),)] * 2)
    engine = Planned(load, "continuous")
    outlook, _ = engine.plan(Horizon(1))
    assert [(computed, tokens) for _, _, computed, tokens in outlook.chunks] == [(0, 65), (64, 1)]


spans = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), max_size=4)


@given(one=spans, other=spans, size=st.integers(1, 5))
def test_keys_are_alike_where_all_tokens_are(one, other, size):
    """Block by block: the same key exactly if every token up to the block's end is the same."""
    keys, tokens = [], []
    for content in (one, other):
        (request,) = Load([(0, 1, 1)], 1, 1, 1, size, [tuple(content)]).requests()
        keys.append(block_keys(request, size))
        tokens.append([(key, place) for key, count in content for place in range(count)])
    assert [len(row) for row in keys] == [len(row) // size for row in tokens]
    for place, (first, second) in enumerate(zip(*keys, strict=False)):
        end = (place + 1) * size
        assert (first == second) == (tokens[0][:end] == tokens[1][:end])


@pytest.mark.parametrize("num_blocks", [8, 9, 12])
def test_the_block_released_longest_ago_is_evicted_first(num_blocks):
    """A of 4 blocks, then B of 4, then one of 3 blocks that no one has: A's last blocks go first, its first ones last."""
    alike = [((1, 16),), ((2, 16),), (), ((1, 16), (9, 1))]
    load = Load([(0, 16, 1), (2, 16, 1), (4, 12, 1), (6, 17, 1)], 2, 999, num_blocks, 4, alike)
    engine = Planned(load, "continuous")
    while not engine.is_over:
        engine.play_on(Horizon(64))
    # Blocks never taken go before those of A; of three that are needed A loses what these leave.
    assert engine.requests[3].cached_tokens == 4 * min(4, 4 - (3 - (num_blocks - 8)))
