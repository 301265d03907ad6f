"""OverTime: an amount over time, in a few hundred bins however long the run is."""

from __future__ import annotations

from typing import Final

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray

BINS: Final = 512
"""Between half of them and all are in use, but for the first quarter of a millisecond."""
_FIRST_TICKS: Final = 1 << 20
"""Ticks of a bin at first, about a microsecond."""
_KEPT: Final = 1024
"""Pieces put by before they are spread over the bins together."""


class OverTime:
    """Adds up amounts, each spread evenly from a start to an end, in bins of equal length.

    Whenever the bins do not reach far enough, each pair of them becomes one. The sum of the bins is what was added.
    """

    def __init__(self) -> None:
        self._bin_ticks = _FIRST_TICKS
        self._amounts = np.zeros(BINS)
        self._pieces: list[tuple[int, int, float]] = []
        self._start, self._end, self._amount = 0, 0, 0.0
        """A bin, and what lies in it of the pieces that came last."""
        self._rows: list[tuple[IntArray, IntArray, FloatArray]] = []
        self._num_kept = 0

    def add(self, start: int, end: int, amount: float) -> None:
        """Add *amount* from tick *start* to tick *end*."""
        if self._start <= start and end <= self._end:
            self._amount += amount
            return
        bin_start = start - start % self._bin_ticks
        if end <= bin_start + self._bin_ticks:
            self._pieces.append((self._start, self._end, self._amount))
            self._start, self._end, self._amount = bin_start, bin_start + self._bin_ticks, amount
        else:
            self._pieces.append((start, end, amount))
        self._keep(1)

    def extend(self, starts: IntArray, ends: IntArray, amounts: FloatArray) -> None:
        """Add many amounts at once; all (pieces,)."""
        self._rows.append((starts, ends, amounts))
        self._keep(len(starts))

    @property
    def bin_ticks(self) -> int:
        """Ticks of a bin, which are more as time goes on."""
        self._spread()
        return self._bin_ticks

    def amounts(self) -> FloatArray:
        """Return the amount in each bin of `bin_ticks`, from tick 0 on (BINS,)."""
        self._spread()
        return self._amounts

    def widened(self, bin_ticks: int) -> FloatArray:
        """Return the amounts in bins of *bin_ticks*, at least as long as its own (BINS,)."""
        found = self.amounts()
        for _ in range((bin_ticks // self._bin_ticks).bit_length() - 1):
            found = _halved(found)
        return found

    def _keep(self, number: int) -> None:
        self._num_kept += number
        if self._num_kept >= _KEPT:
            self._spread()

    def _spread(self) -> None:
        pieces = [*self._pieces, (self._start, self._end, self._amount)]
        self._start, self._end, self._amount = 0, 0, 0.0
        rows = [*self._rows, tuple(map(np.array, zip(*pieces, strict=True)))]
        starts, ends, amounts = (np.concatenate(column) for column in zip(*rows, strict=True))
        self._pieces, self._rows, self._num_kept = [], [], 0
        while int(ends.max(initial=0)) > BINS * self._bin_ticks:
            self._amounts = _halved(self._amounts)
            self._bin_ticks *= 2
        self._amounts += _binned(starts, ends, amounts, self._bin_ticks)


def _halved(amounts: FloatArray) -> FloatArray:
    """Return *amounts* with each pair of bins as one."""
    return np.concatenate((amounts[::2] + amounts[1::2], np.zeros(BINS // 2)))


def _binned(starts: IntArray, ends: IntArray, amounts: FloatArray, bin_ticks: int) -> FloatArray:
    """Spread *amounts* over bins: all of one within a bin, else by the ticks in its first, in its last, and in those between."""
    first = np.minimum(starts // bin_ticks, BINS - 1)
    last = np.maximum((ends - 1) // bin_ticks, first)
    rate = amounts / np.maximum(ends - starts, 1)
    is_long = last > first
    head = np.where(is_long, ((first + 1) * bin_ticks - starts) * rate, amounts)
    found = np.zeros(BINS)
    found += np.bincount(first, head, minlength=BINS)
    if is_long.any():
        first, last, rate, ends = first[is_long], last[is_long], rate[is_long], ends[is_long]
        found += np.bincount(last, (ends - last * bin_ticks) * rate, minlength=BINS)
        # Of those that fill no bin the rates may be so high that the small ones were lost beside them.
        rate = np.where(last > first + 1, rate, 0.0)
        full = np.bincount(first + 1, rate, minlength=BINS + 1) - np.bincount(last, rate, minlength=BINS + 1)
        found += np.cumsum(full[:BINS]) * bin_ticks
    return found
