"""Steps under a load that changes, against a walk through every piece."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusim.runtime.foreign_load import IDLE, Load
from gpusim.runtime.foreign_timeline import NEVER
from gpusim.runtime.passing import Passing

BUSY = Load(0.5)


class Pieces:
    """A timeline by its changes: idle first, then busy and idle in turn."""

    def __init__(self, changes):
        self.changes = changes

    def at(self, tick):
        before = [change for change in self.changes if change <= tick]
        after = [change for change in self.changes if change > tick]
        return (BUSY if len(before) % 2 else IDLE), min(after, default=NEVER)


def walk(pieces, idle, busy, now, wakes):
    """Let steps pass piece by piece, each on its own."""
    ends = []
    for step in range(len(idle)):
        now, left = max(now, wakes.get(step, 0)), 1.0
        while True:
            load, until = pieces.at(now)
            takes = (busy if load is BUSY else idle)[step]
            if now + left * takes <= until:
                break
            left, now = left - (until - now) / takes, until
        now += left * takes
        ends.append(now)
    return ends


steps = st.lists(st.tuples(st.integers(50, 900), st.integers(0, 900)), min_size=1, max_size=12)


@given(
    stated=steps,
    changes=st.lists(st.integers(1, 9000), max_size=12, unique=True).map(sorted),
    wakes=st.dictionaries(st.integers(1, 11), st.integers(0, 9000), max_size=2),
)
def test_steps_pass_at_the_rate_of_each_piece(stated, changes, wakes):
    """Every end is that of a walk through the pieces, within the rounding of the steps before it."""
    idle = np.array([ticks for ticks, _ in stated])
    busy = idle + np.array([more for _, more in stated])
    wakes = {step: tick for step, tick in wakes.items() if step < len(stated)}
    passing = Passing(Pieces(changes), lambda load: busy if load is BUSY else idle)
    ends = passing.ends(len(stated), 7, wakes)
    assert ends == pytest.approx(walk(Pieces(changes), idle, busy, 7, wakes), abs=len(stated) + len(changes))


@given(stated=steps, now=st.integers(0, 10**17))
def test_without_changes_ends_are_sums(stated, now):
    """Under one load ends are exact sums of ticks, at any time."""
    idle = np.array([ticks for ticks, _ in stated])
    ends = Passing(Pieces([]), lambda _: idle).ends(len(stated), now, {})
    assert ends.tolist() == (now + np.cumsum(idle)).tolist()


def test_half_the_memory_doubles_what_it_bounds():
    """A step that waits for memory alone takes twice as long while half of it is taken, and half of it when half-way."""
    passing = Passing(Pieces([150]), lambda load: np.array([200]) if load is BUSY else np.array([100]))
    assert passing.ends(1, 0, {}).tolist() == [100]
    assert passing.ends(1, 100, {}).tolist() == [250], "50 ticks make half a step, the other half takes 100"
