"""Where KV lies on the channels, against a count of every byte."""

from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import build_request
from gpusim.hardware.channel_map import ChannelMap
from gpusim.serving.kv_channels import KvChannels

TOKEN_BYTES = 24


def build_channels(kind="rotate", *, block_size=4, slots=4):
    """Return an empty account of seven channels with granules that divide neither tokens nor blocks."""
    return KvChannels(ChannelMap(kind, 7, 40), TOKEN_BYTES, block_size, slots)


def count_bytes(channels, blocks, tokens, block_size):
    """Count the bytes of each of *tokens* (positions in the request) by channel, one byte after the other."""
    counted = np.zeros(channels.num_channels)
    for token in tokens:
        first = (blocks[token // block_size] * block_size + token % block_size) * TOKEN_BYTES
        granules = np.arange(first, first + TOKEN_BYTES) // 40
        np.add.at(counted, channels._map.channel_of(granules), 1)
    return counted


requests = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 20), st.permutations(range(60))), min_size=1, max_size=4
)


@given(stated=requests, kind=st.sampled_from(["rotate", "hash"]), block_size=st.integers(1, 9))
def test_prefill_is_counted_byte_by_byte(stated, kind, block_size):
    """Chunk by chunk the histogram of a batch is that of all its tokens, wherever its blocks lie."""
    channels = build_channels(kind, block_size=block_size)
    expected, batch = np.zeros(7), []
    for slot, (first, second, blocks) in enumerate(stated):
        request = build_request(slot, slot=slot, blocks=array("q", blocks))
        if first:
            channels.fill(request, first)
        request.computed = first
        channels.fill(request, first + second)
        expected += count_bytes(channels, blocks, range(first + second), block_size)
        batch.append(request)
    assert channels.bytes_of(batch).tolist() == expected.tolist()


@given(stated=requests, kind=st.sampled_from(["rotate", "hash"]), steps=st.integers(1, 12))
def test_growth_is_the_tokens_of_each_step(stated, kind, steps):
    """Step s of a decode run adds to each request the bytes of its token computed + s."""
    channels = build_channels(kind)
    batch = [build_request(i, slot=i, computed=n, blocks=array("q", blocks)) for i, (n, _, blocks) in enumerate(stated)]
    growth = channels.growth(batch, steps)
    assert growth.shape == (steps, len(batch), 7)
    for step in range(steps):
        for row, request in zip(growth[step], batch, strict=True):
            assert row.tolist() == count_bytes(channels, request.blocks, [request.computed + step], 4).tolist()


def test_growing_is_filling():
    """Decoding ten tokens leaves the histogram that computing them in one chunk leaves."""
    blocks = array("q", [5, 2, 9, 0])
    decoded, filled = build_channels(), build_channels()
    one, other = (build_request(slot=2, computed=3, blocks=blocks) for _ in range(2))
    decoded.grow([one], decoded.growth([one], 10))
    filled.fill(other, 13)
    assert decoded.bytes_of([one]).tolist() == filled.bytes_of([other]).tolist()
    assert decoded.bytes_of([one]).sum() == 10 * TOKEN_BYTES


def test_clearing_forgets_one_request_only():
    """A request that leaves takes its bytes along and nobody else's."""
    channels = build_channels()
    stays, leaves = build_request(slot=0, blocks=array("q", [1])), build_request(slot=1, blocks=array("q", [0]))
    channels.fill(stays, 4)
    before = channels.bytes_of([stays]).tolist()
    channels.fill(leaves, 4)
    channels.clear(leaves)
    assert channels.bytes_of([leaves]).tolist() == [0.0] * 7
    assert channels.bytes_of([stays, leaves]).tolist() == before


@pytest.mark.parametrize("token_bytes", [0.5, 1.5, 24.0])
def test_tokens_of_broken_bytes_add_up(token_bytes):
    """With half a byte a token (int4 heads) successive tokens share bytes, and a block still has all of its bytes."""
    channels = KvChannels(ChannelMap("rotate", 7, 40), token_bytes, block_size=16, num_slots=1)
    request = build_request(slot=0, blocks=array("q", [3, 1]))
    for until in range(1, 33):
        channels.fill(request, until)
        request.computed = until
    assert channels.bytes_of([request]).sum() == 32 * token_bytes
