"""Where KV lies on the channels, against a count of every byte."""

from functools import cache
from itertools import cycle

import numpy as np
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from gpusim.hardware.channel_map import ChannelMap
from gpusim.model.window import KvKind
from gpusim.serving.planner import Horizon
from loads import KINDS as SERVED
from loads import Load, loads, shared_loads
from planned import Planned, steps_of

MAPS = st.sampled_from([ChannelMap("rotate", 7, 40), ChannelMap("hash", 7, 40), ChannelMap("rotate", 4, 64)])
"""Granules that divide neither tokens nor blocks; and one that a block of two or four tokens of 32 bytes fills."""

KINDS = st.builds(KvKind, st.sampled_from([24, 32, 0.5, 1.5]), st.none() | st.integers(1, 12))


@cache
def bytes_of(channel_map, token_bytes, number):
    """Count the bytes of the token of that *number* in the region by channel, one byte after the other."""
    addresses = np.arange(np.rint(number * token_bytes), np.rint((number + 1) * token_bytes)).astype(np.int64)
    counted = np.zeros(channel_map.num_channels, dtype=np.int64)
    np.add.at(counted, channel_map.channel_of(addresses // channel_map.granule), 1)
    return counted


def count_bytes(engine, ranges, channel_map, token_bytes):
    """Count all bytes of a range of tokens of each request, wherever its blocks lie."""
    size, counted = engine.load.block_size, np.zeros(channel_map.num_channels, dtype=np.int64)
    for request, tokens in ranges.items():
        blocks = engine.kv.tables[request.slot].tolist()
        for token in tokens:
            counted += bytes_of(channel_map, token_bytes, blocks[token // size] * size + token % size)
    return counted


def in_window(tokens, new, window):
    """Return the tokens that the last *new* of *tokens* attend to."""
    return range(0 if window is None else max(0, tokens - new + 1 - window), tokens)


def read_in(step, window):
    """Return the tokens that each request reads in a step through *window*."""
    new = {request: count for request, _, count in step.chunks}
    return {request: in_window(tokens, new.get(request, 1), window) for request, tokens in step.tokens.items()}


def watch(load, kind, channel_map, kinds, cuts, *, horizon=40):
    """Play *load* in plans that are cut after *cuts* steps; check every step's reads; return what it was about."""
    engine, seen = Planned(load, kind, channels=(channel_map, kinds)), set()
    while not engine.is_over:
        outlook, planned = engine.plan(Horizon(horizon))
        read = engine.place(outlook)
        number = min(next(cuts), outlook.num_steps)
        steps = steps_of(outlook)
        for of, rows in zip(kinds, read, strict=True):
            assert rows.shape == (outlook.num_steps, channel_map.num_channels)
            for got, step in zip(rows, steps, strict=True):
                counted = count_bytes(engine, read_in(step, of.window), channel_map, of.token_bytes)
                assert got.tolist() == counted.tolist()
        seen |= {"preempted"} if outlook.preempted else set()
        seen |= {"unread"} if outlook.reads else set()
        seen |= {"mixed"} if any(step.chunks and step.decoding for step in steps) else set()
        seen |= {"cut"} if number < outlook.num_steps else set()
        seen |= {"paused"} if outlook.pauses else set()
        last = steps[number - 1]
        engine.keep(outlook, planned, number, read)
        rest = {r: n for r, n in last.tokens.items() if r not in last.finished}
        if number - 1 in outlook.pauses:
            rest |= {r: engine.roster.cached(r) for r in engine.roster.running}
        for of, held in zip(kinds, engine.channels.held_bytes, strict=True):
            ranges = {request: in_window(tokens + 1, 1, of.window)[:-1] for request, tokens in rest.items()}
            assert held.tolist() == count_bytes(engine, ranges, channel_map, of.token_bytes).tolist()
        seen |= {"beyond a window"} if any(n > (k.window or n) for n in last.tokens.values() for k in kinds) else set()
    assert not any(held.any() for held in engine.channels.held_bytes)
    return seen


@settings(max_examples=200)
@given(
    load=loads(most=6) | loads(most=6, spare=60) | shared_loads(most=6, spare=20),
    kind=st.sampled_from(SERVED),
    channel_map=MAPS,
    kinds=st.lists(KINDS, min_size=1, max_size=2),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=9),
)
def test_every_step_reads_the_bytes_of_its_requests(load, kind, channel_map, kinds, cuts):
    """Prefill chunks, decode growth, windows, release, preemption, waiting for others' prompts, cuts: each byte counts."""
    assume(load.contents is None or kind.startswith("continuous"))
    for what in watch(load, kind, channel_map, kinds, cycle(cuts)):
        event(what)


@pytest.mark.parametrize("kind", ["rotate", "hash"])
@pytest.mark.parametrize("window", [None, 1, 2, 5, 9])
@pytest.mark.parametrize("token_bytes", [0.5, 24, 32])
def test_all_that_can_happen_to_kv_is_counted(kind, token_bytes, window):
    """Two that run out of blocks, a long prompt beside decodes, plans cut after two steps: all of it occurs here."""
    load = Load([(0, 4, 22), (0, 4, 22), (1, 15, 3)], max_num_seqs=3, budget=8, num_blocks=19, block_size=2)
    seen = watch(load, "continuous", ChannelMap(kind, 7, 40), [KvKind(token_bytes, window)], cycle([1, 2]))
    assert seen == {"preempted", "mixed", "cut"} | ({"beyond a window"} if window else set())


@pytest.mark.parametrize("cut", [1, 2, 3, 99])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("kind", ["rotate", "hash"])
def test_who_waits_for_the_prompts_of_others_is_not_read(kind, cut, window):
    """A static batch computes prompts of 5, 11 and 9 with 4 tokens a step; meanwhile those that are ready are not read."""
    load = Load([(0, 5, 4), (0, 11, 3), (0, 9, 5)], max_num_seqs=3, budget=4, num_blocks=30, block_size=2)
    assert "unread" in watch(load, "static", ChannelMap(kind, 7, 40), [KvKind(24, window)], cycle([cut]))


@pytest.mark.parametrize("cut", [1, 2, 3, 99])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("kind", ["rotate", "hash"])
def test_who_pauses_is_not_read(kind, cut, window):
    """Prompts that come one after the other make decodes pause, some of which have just been prompts themselves."""
    load = Load(
        [(0, 5, 9), (2, 9, 3), (3, 11, 9), (3, 2, 5), (9, 4, 4)], max_num_seqs=5, budget=16, num_blocks=40, block_size=2
    )
    assert "paused" in watch(load, "vllm-v0", ChannelMap(kind, 7, 40), [KvKind(24, window)], cycle([cut]))


@pytest.mark.parametrize("window", [None, 4])
def test_growing_is_filling(window):
    """A token at a time or all in one chunk, 13 tokens in the cache are the same bytes on the same channels."""
    held = []
    for prompt in (3, 13):
        engine = Planned(
            Load([(0, prompt, 20)], 1, 99, 99, 4),
            "continuous",
            channels=(ChannelMap("rotate", 7, 40), [KvKind(24, window)]),
        )
        outlook, planned = engine.plan(Horizon(1 + 13 - prompt))
        read = engine.place(outlook)
        engine.keep(outlook, planned, outlook.num_steps, read)
        held.append(engine.channels.held_bytes[0].tolist())
    assert held[0] == held[1]
    assert sum(held[0]) == (13 if window is None else window - 1) * 24


@pytest.mark.parametrize("token_bytes", [0.5, 1.5, 24.0])
def test_tokens_of_broken_bytes_add_up(token_bytes):
    """With half a byte a token (int4 heads) successive tokens share bytes, and two blocks still have all of theirs."""
    channels = ChannelMap("rotate", 7, 40), [KvKind(token_bytes, None)]
    engine = Planned(Load([(0, 1, 40)], 1, 9, 9, 16), "continuous", channels=channels)
    outlook, _ = engine.plan(Horizon(32))
    (read,) = engine.place(outlook)
    assert read[31].sum() == 32 * token_bytes
    assert read[15].sum() == 16 * token_bytes
