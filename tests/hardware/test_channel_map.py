"""Where addresses lie: the closed form counts what a loop over granules counts, and no stride camps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.hardware.channel_map import ChannelMap, hash_imbalance

MAPS = st.builds(ChannelMap, st.sampled_from(["rotate", "hash"]), st.integers(1, 12), st.sampled_from([32, 100, 512]))
RANGES = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 30_000)), max_size=5)


def bounds(ranges):
    """Return starts and ends of (start, size) pairs."""
    pairs = np.array(ranges, dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs.sum(axis=1)


def count_granules(channel_map, start, end):
    """Count the bytes on each channel of one range, granule by granule."""
    counted = np.zeros(channel_map.num_channels)
    while start < end:
        granule = start // channel_map.granule
        stop = min(end, (granule + 1) * channel_map.granule)
        counted[channel_map.channel_of(np.array([granule]))[0]] += stop - start
        start = stop
    return counted


@settings(max_examples=60, deadline=None)
@given(MAPS, RANGES)
def test_histograms_count_what_a_loop_over_granules_counts(channel_map, ranges):
    """Closed form and loop agree exactly, range by range and in sum."""
    starts, ends = bounds(ranges)
    loops = [count_granules(channel_map, start, end) for start, end in zip(starts, ends, strict=True)]
    looped = np.reshape(loops, (-1, channel_map.num_channels))
    assert np.array_equal(channel_map.histograms(starts, ends), looped)
    assert np.array_equal(channel_map.histogram(starts, ends), looped.sum(axis=0))


def sums_of(channel_map, rows, starts, ends, signs):
    """Add up the histogram of each range, row by row."""
    sums = np.zeros((int(rows.max(initial=0)) + 2, channel_map.num_channels))
    np.add.at(sums, rows, signs[:, None] * channel_map.histograms(starts, ends))
    return sums


@settings(max_examples=200)
@given(
    channel_map=MAPS,
    ranges=st.lists(
        st.tuples(
            st.integers(0, 9), st.integers(0, 400), st.sampled_from([0, 1, 1, 2, 7, 40]), st.sampled_from([1, -1])
        )
    ),
    unit=st.sampled_from([1, 32, 100, 512, 1024]),
    longest=st.sampled_from([1, 40]),
)
def test_changes_are_signed_histograms_by_row(channel_map, ranges, unit, longest):
    """Ranges of whole granules, of one each, empty ones and crooked ones, added and taken away, in any row."""
    rows, starts, sizes, signs = np.array(ranges, dtype=np.int64).reshape(-1, 4).T
    starts, ends = starts * unit, (starts + np.minimum(sizes, longest)) * unit
    expected = sums_of(channel_map, rows, starts, ends, signs)
    assert np.array_equal(channel_map.changes(rows, len(expected), starts, ends, signs), expected)
    plain = sums_of(channel_map, rows, starts, ends, np.ones_like(signs))
    assert np.array_equal(channel_map.changes(rows, len(expected), starts, ends), plain)


def test_changes_hold_gigabytes():
    """Whole stripes at high addresses, added and taken away again, leave nothing behind."""
    channel_map, stripe = ChannelMap("rotate", 80, 512), 80 * 512
    starts = np.array([2**20, 2**20, 2**21]) * stripe
    ends = starts + np.array([2**15, 2**15, 3]) * stripe
    counted = channel_map.changes(np.array([0, 0, 1]), 3, starts, ends, np.array([1, -1, 1]))
    assert counted.tolist() == [[0] * 80, [3 * 512] * 80, [0] * 80]


@settings(max_examples=60)
@given(st.integers(1, 300), st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**34)), max_size=5))
def test_no_byte_is_lost(num_channels, ranges):
    """The bytes on all channels are the bytes of the ranges, for gigabytes at high addresses too."""
    channel_map, (starts, ends) = ChannelMap("rotate", num_channels, 512), bounds(ranges)
    assert channel_map.histogram(starts, ends).sum() == (ends - starts).sum()
    assert np.array_equal(channel_map.histograms(starts, ends).sum(axis=1), ends - starts)


def test_the_first_stripes_are_turned_by_one_each():
    """Granule g lies on channel (g + g // C) mod C as long as there are fewer stripes than channels."""
    granule = np.arange(5 * 5)
    assert np.array_equal(ChannelMap("rotate", 5, 512).channel_of(granule), (granule + granule // 5) % 5)


@pytest.mark.parametrize("num_channels", [12, 16, 24, 32, 48, 64, 80, 96, 160, 192, 256])
def test_power_of_two_strides_do_not_camp(num_channels):
    """Sixteen granules per channel, any power of two apart, load the fullest at most half above the mean."""
    for exponent in range(21):  # up to 512 MiB apart, far beyond any device's memory
        starts = np.arange(16 * num_channels) * (512 << exponent)
        loads = ChannelMap("rotate", num_channels, 512).histogram(starts, starts + 512)
        assert loads.max() <= 1.5 * loads.mean(), f"stride of 512 B << {exponent}"


def test_whole_stripes_load_all_channels_alike():
    """A range of whole stripes is spread perfectly, wherever its stripe begins."""
    stripe = 80 * 512
    loads = ChannelMap("rotate", 80, 512).histogram(np.array([7 * stripe]), np.array([107 * stripe]))
    assert (loads == 100 * 512).all()


@pytest.mark.parametrize(
    ("num_channels", "granules", "mean_over_max"),
    [(80, 1, 0.244), (80, 16, 0.605), (80, 256, 0.867), (160, 1, 0.227), (160, 64, 0.740), (160, 1024, 0.922)],
)
def test_hash_imbalance_agrees_with_simulated_draws(num_channels, granules, mean_over_max):
    """The closed form meets the mean of published random draws within 3 %."""
    assert 1 / hash_imbalance(granules, num_channels) == pytest.approx(mean_over_max, rel=0.03)


def test_hash_imbalance_tends_to_its_limits():
    """One channel is never out of balance; many granules even out; one granule is all on one of C channels."""
    assert hash_imbalance(5.0, 1) == pytest.approx(1.0, rel=1e-9)
    assert hash_imbalance(1e6, 80) == pytest.approx(1 + np.sqrt(2 * np.log(80) / 1e6), abs=1e-3)
    assert hash_imbalance(1e-6, 80) == pytest.approx(80, rel=1e-4)
