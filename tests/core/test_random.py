"""Random streams: what entry i of a stream depends on."""

from itertools import chain, islice

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.core.random import BLOCK, Streams


def normals(generator, size):
    return generator.standard_normal(size)


def values_of(streams, stream):
    return chain.from_iterable(block.tolist() for block in streams.blocks(stream, normals))


def first(count, *, seed=0, stream="a"):
    return list(islice(values_of(Streams(seed), stream), count))


@settings(max_examples=20)
@given(st.permutations(range(6)))
def test_blocks_do_not_depend_on_the_order_they_are_read_in(order):
    """Block k holds the same values whichever blocks were drawn before it."""
    streams = Streams(7)
    read = {index: streams.block("a", index).random(3).tolist() for index in order}
    assert read == {index: Streams(7).block("a", index).random(3).tolist() for index in range(6)}


def test_a_longer_stream_repeats_the_shorter_one():
    """The first values stay the same across block borders."""
    assert first(3 * BLOCK)[: BLOCK + 5] == first(BLOCK + 5)


def test_one_streams_readers_do_not_disturb_another_stream():
    """Reading two streams in turns gives what reading each alone gives."""
    streams = Streams(0)
    turns = zip(values_of(streams, "a"), values_of(streams, "b"), strict=True)
    both = list(islice(turns, BLOCK + 5))
    assert [a for a, _ in both] == first(BLOCK + 5)
    assert [b for _, b in both] == first(BLOCK + 5, stream="b")


def test_seed_stream_and_block_all_matter():
    """Values differ between seeds, between streams, and between blocks of one stream."""
    values = first(2 * BLOCK)
    assert not set(values[:BLOCK]) & set(values[BLOCK:])
    assert not set(values) & set(first(2 * BLOCK, seed=1))
    assert not set(values) & set(first(2 * BLOCK, stream="b"))


def test_neighbouring_streams_and_blocks_are_uncorrelated():
    """Correlations stay within four standard errors of zero."""
    values = np.array(first(64 * BLOCK))
    other = np.array(first(64 * BLOCK, stream="b"))
    pairs = [(values, other), (values[:-BLOCK], values[BLOCK:])]
    assert all(abs(np.corrcoef(x, y)[0, 1]) < 4 / np.sqrt(x.size) for x, y in pairs)


def test_the_key_is_the_same_on_every_platform():
    """The raw bits of a block are fixed: no platform, process or hash seed changes them."""
    assert Streams(0).block("a", 0).bit_generator.random_raw(2).tolist() == [7940855084873053004, 14261478520545744601]
