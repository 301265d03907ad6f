"""Amounts over time, in bins that double."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusim.hardware.over_time import BINS, OverTime

PIECES = st.lists(st.tuples(st.integers(0, 10**13), st.integers(1, 10**11), st.floats(0.0, 1e9)), max_size=40)


def even(pieces, edges):
    """Return what each of *edges* has before it, piece by piece."""
    before = np.zeros(len(edges))
    for start, length, amount in pieces:
        before += amount * np.clip((edges - start) / max(length, 1), 0.0, 1.0)
    return before


@given(pieces=PIECES)
def test_each_amount_is_spread_evenly(pieces):
    """Added one by one or together, bins hold what an even spread puts there; their sum is what was added."""
    one, all_at_once = OverTime(), OverTime()
    for start, length, amount in pieces:
        one.add(start, start + length, amount)
    rows = np.array(pieces or [(0, 0, 0.0)])
    starts, lengths = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
    all_at_once.extend(starts, starts + lengths, rows[:, 2])
    total = sum(amount for *_, amount in pieces)
    assert all_at_once.amounts().sum() == pytest.approx(total, rel=1e-12)
    assert one.amounts().sum() == pytest.approx(total, rel=1e-12)
    for found in (one, all_at_once):
        edges = np.arange(BINS + 1) * found.bin_ticks
        expected = even(pieces, edges)[1:]
        assert np.cumsum(found.amounts()) == pytest.approx(expected, rel=1e-9, abs=1e-9 * max(total, 1.0))


@given(
    amounts=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60),
    length=st.integers(1, 1 << 22),
    start=st.integers(0, 9**9),
)
def test_short_pieces_do_not_move_to_other_bins(amounts, length, start):
    """Piece after piece, many in a bin or over its edge, each bin has what an even spread of each puts there."""
    over_time = OverTime()
    pieces = [(start + number * length, length, amount) for number, amount in enumerate(amounts)]
    for begin, _, amount in pieces:
        over_time.add(begin, begin + length, amount)
    edges = np.arange(BINS + 1) * over_time.bin_ticks
    assert over_time.amounts() == pytest.approx(np.diff(even(pieces, edges)), abs=1e-9)


def test_bins_double_as_time_goes_on():
    """A constant rate stays one, from microseconds to hours, and half of the bins at least are in use."""
    over_time = OverTime()
    end = 0
    while end < 10**16:
        start, end = end, end + max(1000, end // 3)
        over_time.add(start, end, 2.0 * (end - start))
    width = over_time.bin_ticks
    used = end // width
    assert BINS // 2 <= used <= BINS
    assert over_time.amounts()[:used] == pytest.approx(2.0 * width)
    assert over_time.widened(4 * width)[: used // 4] == pytest.approx(8.0 * width)
