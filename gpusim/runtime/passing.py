"""Steps that pass beside foreign traffic: piece by piece of constant load, each step as fast as the load lets it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping

import numpy as np

from gpusim.core.arrays import IntArray
from gpusim.runtime.foreign_load import Load
from gpusim.runtime.foreign_timeline import ForeignTimeline


class Passing:
    """Steps under changing load.

    In a piece of constant load a step gets on at one step in the ticks it takes under that load; where the load changes
    in the midst of it, what is left of it goes on at the new rate.

    Args:
        timeline: The load.
        gpu_ticks_under: Returns what the GPU takes for each step under a load, (steps,).
        host_ticks: (steps,) What the host takes beside each, before which it does not end.
    """

    def __init__(
        self, timeline: ForeignTimeline, gpu_ticks_under: Callable[[Load], IntArray], host_ticks: IntArray
    ) -> None:
        self._timeline = timeline
        self._gpu_ticks_under = gpu_ticks_under
        self._host_ticks = host_ticks
        self._known: dict[Load, tuple[list[int], list[int]]] = {}

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
        while step < behind:
            load, until = self._timeline.at(now)
            _, sums = self._under(load)
            reached = min(behind, bisect_right(sums, sums[step] + until - now) - 1)
            ends += [now + total - sums[step] for total in sums[step + 1 : reached + 1]]
            if reached < behind:
                ends.append(self._end_of(reached, ends[-1] if reached > step else now))
            step, now = reached + 1, ends[-1]

    def _end_of(self, step: int, start: int) -> int:
        """Return the tick at which a step ends during which the load changes."""
        now, done = start, 0.0
        while True:
            load, until = self._timeline.at(now)
            gpu_ticks, _ = self._under(load)
            left = round((1.0 - done) * gpu_ticks[step])
            if now + left <= until:
                return max(now + left, start + int(self._host_ticks[step]))
            done += (until - now) / gpu_ticks[step]
            now = until

    def _under(self, load: Load) -> tuple[list[int], list[int]]:
        """Return what the GPU takes for each step under *load*, and the ticks of all steps before each, and of all."""
        if load not in self._known:
            gpu_ticks = self._gpu_ticks_under(load)
            sums = np.cumsum(np.maximum(gpu_ticks, self._host_ticks))
            self._known[load] = gpu_ticks.tolist(), [0, *sums.tolist()]
        return self._known[load]


def _blocks(num_steps: int, wakes: Mapping[int, int]) -> list[tuple[int, int]]:
    """Cut the steps where one waits for a tick of its own."""
    cuts = sorted({0, *wakes})
    return list(zip(cuts, [*cuts[1:], num_steps], strict=True))
