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
NO_HOST = np.zeros(1, dtype=np.int64)


class Pieces:
    """A timeline by its changes: idle first, then busy and idle in turn."""

    def __init__(self, changes):
        self.changes = changes

    def at(self, tick):
        before = [change for change in self.changes if change <= tick]
        after = [change for change in self.changes if change > tick]
        return (BUSY if len(before) % 2 else IDLE), min(after, default=NEVER)


def walk(pieces, idle, busy, host, now, wakes):
    """Let steps pass piece by piece, each on its own, none of them before the host is through."""
    ends = []
    for step in range(len(idle)):
        now, left = max(now, wakes.get(step, 0)), 1.0
        host_end = now + host[step]
        while True:
            load, until = pieces.at(now)
            takes = (busy if load is BUSY else idle)[step]
            if now + left * takes <= until:
                break
            left, now = left - (until - now) / takes, until
        now = max(now + left * takes, host_end)
        ends.append(now)
    return ends


steps = st.lists(st.tuples(st.integers(50, 900), st.integers(0, 900), st.integers(0, 1200)), min_size=1, max_size=12)


@given(
    stated=steps,
    changes=st.lists(st.integers(1, 9000), max_size=12, unique=True).map(sorted),
    wakes=st.dictionaries(st.integers(1, 11), st.integers(0, 9000), max_size=2),
)
def test_steps_pass_at_the_rate_of_each_piece(stated, changes, wakes):
    """Every end is that of a walk through the pieces, within the rounding of the steps before it."""
    idle, more, host = np.array(stated).T
    busy = idle + more
    wakes = {step: tick for step, tick in wakes.items() if step < len(stated)}
    passing = Passing(Pieces(changes), lambda load: busy if load is BUSY else idle, host)
    ends = passing.ends(len(stated), 7, wakes)
    assert ends == pytest.approx(walk(Pieces(changes), idle, busy, host, 7, wakes), abs=len(stated) + len(changes))


@given(stated=steps, now=st.integers(0, 10**17))
def test_without_changes_ends_are_sums(stated, now):
    """Under one load ends are exact sums of ticks, at any time: of the GPU or of the host, whichever takes longer."""
    idle, _, host = np.array(stated).T
    ends = Passing(Pieces([]), lambda _: idle, host).ends(len(stated), now, {})
    assert ends.tolist() == (now + np.cumsum(np.maximum(idle, host))).tolist()


def test_half_the_memory_doubles_what_it_bounds():
    """A step that waits for memory alone takes twice as long while half of it is taken, and half of it when half-way."""
    passing = Passing(Pieces([150]), lambda load: np.array([200]) if load is BUSY else np.array([100]), NO_HOST)
    assert passing.ends(1, 0, {}).tolist() == [100]
    assert passing.ends(1, 100, {}).tolist() == [250], "50 ticks make half a step, the other half takes 100"


def test_what_hides_behind_the_host_may_stretch():
    """Traffic that slows the GPU down costs nothing up to the host's time, and what goes beyond it after that."""
    for host, end in ((120, 150), (150, 150), (180, 180)):
        passing = Passing(Pieces([50]), lambda load: np.array([200 if load is BUSY else 100]), np.array([host]))
        assert passing.ends(1, 0, {}).tolist() == [end]
