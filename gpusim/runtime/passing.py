"""Steps that pass beside foreign traffic: piece by piece of constant load, each step as fast as the load lets it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping

import numpy as np

from gpusim.core.clock import IntArray
from gpusim.runtime.foreign_load import Load
from gpusim.runtime.foreign_timeline import ForeignTimeline


class Passing:
    """Steps under changing load.

    In a piece of constant load a step gets on at one step in the ticks it takes under that load; where the load changes
    in the midst of it, what is left of it goes on at the new rate.

    Args:
        timeline: The load.
        ticks_under: Returns what each step takes under a load, (steps,).
    """

    def __init__(self, timeline: ForeignTimeline, ticks_under: Callable[[Load], IntArray]) -> None:
        self._timeline = timeline
        self._ticks_under = ticks_under
        self._sums: dict[Load, list[int]] = {}
        """Ticks of all steps before each, and of all."""

    def ends(self, num_steps: int, now: int, wakes: Mapping[int, int]) -> IntArray:
        """Return the tick at which each step ends, back to back from tick *now* on.

        Args:
            num_steps: At least one.
            now: Tick.
            wakes: Ticks before which certain steps, by their number, do not start.
        """
        ends: list[int] = []
        for first, behind in _blocks(num_steps, wakes):
            start = max(ends[-1] if ends else now, wakes.get(first, 0))
            self._pass(first, behind, start, ends)
        return np.array(ends, dtype=np.int64)

    def _pass(self, step: int, behind: int, now: int, ends: list[int]) -> None:
        """Let the steps from *step* to the one before *behind* pass from tick *now* on."""
        done = 0.0  # of the first of them
        while True:
            load, until = self._timeline.at(now)
            sums = self._sums_of(load)
            begun = sums[step] + done * (sums[step + 1] - sums[step])
            # Ticks of this load that are over when it changes, on the same count as the sums.
            over = begun + (until - now)
            reached = min(behind, bisect_right(sums, over) - 1)
            ends += [now + round(total - begun) for total in sums[step + 1 : reached + 1]]
            if reached == behind:
                return
            step = reached
            done = (over - sums[step]) / (sums[step + 1] - sums[step])
            now = until

    def _sums_of(self, load: Load) -> list[int]:
        if load not in self._sums:
            self._sums[load] = [0, *np.cumsum(self._ticks_under(load)).tolist()]
        return self._sums[load]


def _blocks(num_steps: int, wakes: Mapping[int, int]) -> list[tuple[int, int]]:
    """Cut the steps where one waits for a tick of its own."""
    cuts = sorted({0, *wakes})
    return list(zip(cuts, [*cuts[1:], num_steps], strict=True))
