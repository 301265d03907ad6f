"""Growing columns and exact seconds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpusim.core.clock import seconds
from gpusim.results.columns import Column, seconds_array


@given(pieces=st.lists(st.one_of(st.none(), st.integers(0, 2000)), max_size=8))
def test_a_column_holds_what_was_put_in(pieces):
    """Rows come back in order, however they were appended, and a look in between changes nothing."""
    column, expected = Column(np.int64), []
    for size in pieces:
        more = np.arange(len(expected), len(expected) + (1 if size is None else size))
        if size is None:
            column.append(int(more[0]))
        else:
            column.extend(more)
        expected.extend(more.tolist())
        assert len(column) == len(expected)
        if len(expected) % 2:
            column.array()
    assert column.array().tolist() == expected


@given(size=st.integers(1, 3000), looked=st.booleans(), singly=st.booleans())
def test_the_last_row_can_be_changed(size, looked, singly):
    """Whatever lies in chunks, in the list or in an array handed out, the last row is the last, and only it changes."""
    column = Column(np.int64)
    if singly:
        for value in range(size):
            column.append(value)
    else:
        column.extend(np.arange(size))
    before = column.array() if looked else None
    column.last()[0] = -7
    column.append(5)
    assert column.array().tolist() == [*range(size - 1), -7, 5]
    assert before is None or before[-1] == size - 1


def test_a_look_does_not_copy_and_cannot_write():
    """Two looks without growth return the same memory, which is read-only."""
    column = Column(np.int64)
    column.extend(np.arange(10))
    first = column.array()
    assert column.array() is first
    assert not first.flags.writeable


def test_the_reserve_is_at_most_one_chunk():
    """A million rows appended in small pieces take no more than a chunk (0.5 MB) above their 8 MB."""
    column = Column(np.int64)
    for _ in range(10_000):
        column.extend(np.zeros(100, np.int64))
    assert column.nbytes <= 8 * (1_000_000 + 2**16)


@given(ticks=st.lists(st.integers(0, 2**60 - 1) | st.integers(2**53, 2**56), min_size=1, max_size=50))
def test_seconds_are_rounded_once(ticks):
    """An array of ticks becomes the same floats as one tick at a time, correctly rounded, up to 13 days."""
    assert seconds_array(np.array(ticks)).tolist() == [seconds(tick) for tick in ticks]


def test_seconds_near_rounding_boundaries():
    """Ticks next to the midpoint between two floats are rounded to the right side."""
    ticks = []
    for exponent in range(14, 20):
        midpoint_s = 2**exponent + np.arange(1, 2000, 2) * 2.0 ** (exponent - 53)
        ticks += [int(2**exponent * 10**12 + round(float(s - 2**exponent) * 1e12)) for s in midpoint_s]
    near = [tick + offset for tick in ticks for offset in (-1, 0, 1)]
    assert seconds_array(np.array(near)).tolist() == [seconds(tick) for tick in near]
