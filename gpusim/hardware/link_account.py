"""LinkAccount: what the resources of a fabric have moved and when, and how long they were busy with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.hardware.flow import Loads
from gpusim.hardware.over_time import OverTime

_KEPT: Final = 256
"""Pieces of traffic counted before their loads are added up."""


class LinkAccount:
    """Bytes and busy seconds of each resource, and of all links of a kind together what they moved over time.

    The same traffic moves again and again, a collective in every layer of every step. So it is counted first, and its
    loads are added to those of the resources when somebody asks.

    Args:
        num_resources: Links and memory banks.
        kinds: Of the links, which are the first resources.
        peak: Bytes/s of each link, as stated (links,).
    """

    def __init__(self, num_resources: int, kinds: Sequence[str], peak: FloatArray) -> None:
        self.over_time = {kind: OverTime() for kind in dict.fromkeys(kinds)}
        """Of each kind of link: seconds that its bytes take at peak bandwidth, added up over the links."""
        self._peak_s = {kind: np.zeros(num_resources) for kind in self.over_time}
        for link, kind in enumerate(kinds):
            self._peak_s[kind][link] = 1.0 / peak[link]
        self._seconds_of: dict[Loads, list[tuple[OverTime, float]]] = {}
        self._moved_bytes = np.zeros(num_resources)
        self._busy_s = np.zeros(num_resources)
        self._counted: dict[Loads, tuple[float, float]] = {}

    def add(self, loads: Loads, times: float, occupation: float) -> None:
        """Count *loads* moved *times*, each byte of it keeping a link busy for that of *occupation* bytes; not when."""
        moved, occupied = self._counted.get(loads, (0.0, 0.0))
        self._counted[loads] = moved + times, occupied + times * occupation
        if len(self._counted) > _KEPT:
            self._add_up()

    def spread(self, loads: Loads, start: int, end: int, times: float) -> None:
        """Note that *loads* moved *times* between two ticks."""
        for over_time, peak_s in self._seconds(loads):
            over_time.add(start, end, times * peak_s)

    def spread_steps(self, loads: Loads, starts: IntArray, ends: IntArray, times: FloatArray) -> None:
        """Note how many *times* *loads* moved in each of many steps; all (steps,)."""
        for over_time, peak_s in self._seconds(loads):
            over_time.extend(starts, ends, times * peak_s)

    def moved_bytes(self) -> FloatArray:
        """Return the bytes each resource has moved, shape (num_resources,)."""
        self._add_up()
        return self._moved_bytes

    def busy_s(self) -> FloatArray:
        """Return how long each would have needed at full rate for what kept it busy, shape (num_resources,)."""
        self._add_up()
        return self._busy_s

    def _seconds(self, loads: Loads) -> list[tuple[OverTime, float]]:
        """Return for each kind of link the seconds that *loads* takes on all of them together at peak bandwidth."""
        if loads not in self._seconds_of:
            if len(self._seconds_of) > _KEPT:
                self._seconds_of.clear()
            found = [(kind, float(loads.amounts @ peak_s[loads.index])) for kind, peak_s in self._peak_s.items()]
            self._seconds_of[loads] = [(self.over_time[kind], peak_s) for kind, peak_s in found if peak_s]
        return self._seconds_of[loads]

    def _add_up(self) -> None:
        for loads, (moved, occupied) in self._counted.items():
            self._moved_bytes[loads.index] += loads.amounts * moved
            self._busy_s[loads.index] += loads.idle_s * occupied
        self._counted.clear()
