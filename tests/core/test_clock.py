"""The integer clock: rounding once, exact sums, ties by kind."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.core.clock import ARRIVAL, COMPLETION, DECISION, TICKS_PER_S, Clock, seconds, ticks, ticks_array

DURATIONS_S = st.floats(0, 1e6)


@pytest.mark.parametrize(("duration_s", "expected"), [(0.5e-12, 0), (1.5e-12, 2), (2.5e-12, 2), (1e6, 10**18)])
def test_ticks_round_half_to_even(duration_s, expected):
    """A picosecond is the smallest step, and halves go to the even neighbour."""
    assert ticks(duration_s) == expected


@given(st.lists(DURATIONS_S, max_size=20))
def test_arrays_round_like_scalars(durations_s):
    """Element by element the vectorised rounding is the scalar one."""
    assert ticks_array(np.array(durations_s)).tolist() == [ticks(d) for d in durations_s]


@given(DURATIONS_S)
def test_rounding_moves_a_duration_by_at_most_half_a_tick(duration_s):
    """Seconds to ticks and back is off by half a picosecond, plus the rounding of floats."""
    assert abs(seconds(ticks(duration_s)) - duration_s) <= 0.5 / TICKS_PER_S + 4e-16 * duration_s


@settings(max_examples=25)
@given(st.integers(0, 10**18), st.lists(st.integers(0, 10**12), min_size=1, max_size=10))
def test_many_waits_end_when_their_sum_ends(start, delays):
    """Waiting piece by piece is waiting once, to the tick, at a million seconds as at zero."""
    clock = Clock()

    def waits():
        yield clock.timeout(start)
        for delay in delays:
            yield clock.timeout(delay)

    clock.run(clock.env.process(waits()))
    assert clock.now == start + sum(delays)


@pytest.mark.parametrize("creation", list(permutations([COMPLETION, ARRIVAL, DECISION])))
def test_ties_are_ordered_by_kind_not_by_creation(creation):
    """At one tick completions come first, then arrivals, then decisions."""
    clock, seen = Clock(), []
    for priority in creation:
        clock.timeout(5, priority=priority, value=priority).callbacks.append(lambda event: seen.append(event.value))
    clock.run()
    assert seen == [COMPLETION, ARRIVAL, DECISION]


def test_an_earlier_tick_beats_a_higher_priority():
    """Priorities order one tick only."""
    clock, seen = Clock(), []
    for delay, priority in ((6, COMPLETION), (5, DECISION)):
        clock.timeout(delay, priority=priority, value=delay).callbacks.append(lambda event: seen.append(event.value))
    clock.run()
    assert seen == [5, 6]


def test_run_until_an_event_returns_its_value():
    """The clock stops at the event and hands back what it was triggered with."""
    clock = Clock()
    clock.timeout(ticks(3.0))
    assert clock.run(clock.timeout(ticks(2e-6), value="done")) == "done"
    assert clock.now == 2_000_000
    assert clock.now_s == 2e-6


def test_calls_come_in_their_tick_and_order():
    """Functions are called at their tick, ordered like waits by their kind."""
    clock, seen = Clock(), []
    for delay, priority in ((5, DECISION), (5, COMPLETION), (3, DECISION), (0, COMPLETION)):
        clock.call_in(delay, lambda _, priority=priority: seen.append((clock.now, priority)), priority=priority)
    clock.run()
    assert seen == [(0, COMPLETION), (3, DECISION), (5, COMPLETION), (5, DECISION)]
    with pytest.raises(AssertionError, match="past"):
        clock.call_in(-1, seen.append)


def test_who_waits_for_a_past_event_goes_on_at_once():
    """A process gets its value in the same tick, and nothing is put on the queue for it."""
    clock = Clock()

    def waits():
        value = yield clock.past_event("value")
        return value, clock.now

    assert clock.run(clock.env.process(waits())) == ("value", 0)
    assert clock.past_event().processed
