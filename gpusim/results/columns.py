"""Columns that grow in chunks, and ticks as seconds."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from gpusim.core.clock import TICKS_PER_S, FloatArray, IntArray

Records: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
"""A numpy array of one dtype, often a structured one."""

_SMALLEST_CHUNK: Final = 256
_LARGEST_CHUNK: Final = 1 << 16


class Column:
    """A numpy array that grows without copying what it holds.

    Each chunk is a quarter of what is there, up to 65 536 rows: little is in reserve, and chunks stay few.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self._full: list[Records] = []
        self._num_full = 0
        self._open: Records = np.empty(_SMALLEST_CHUNK, dtype)
        self._used = 0

    def __len__(self) -> int:
        return self._num_full + self._used

    @property
    def nbytes(self) -> int:
        """Bytes held, reserve included."""
        return sum(chunk.nbytes for chunk in self._full) + self._open.nbytes

    def append(self, row: Any) -> None:
        """Add one row: a number, or a tuple for a structured dtype."""
        if self._used == len(self._open):
            self._open_next()
        self._open[self._used] = row
        self._used += 1

    def extend(self, rows: Records) -> None:
        """Add all *rows*, in order."""
        done = 0
        while done < len(rows):
            if self._used == len(self._open):
                self._open_next()
            count = min(len(rows) - done, len(self._open) - self._used)
            self._open[self._used : self._used + count] = rows[done : done + count]
            self._used += count
            done += count

    def array(self) -> Records:
        """Return all rows as one read-only array; repeated calls without growth copy nothing."""
        if self._used:
            self._full = [np.concatenate([*self._full, self._open[: self._used]])]
            self._full[0].flags.writeable = False
            self._num_full = len(self._full[0])
            self._used = 0
        return self._full[0] if self._full else self._open[:0]

    def _open_next(self) -> None:
        self._full.append(self._open)
        self._num_full += self._used
        self._open = np.empty(min(max(_SMALLEST_CHUNK, len(self) // 4), _LARGEST_CHUNK), self._open.dtype)
        self._used = 0


def seconds_array(ticks: IntArray) -> FloatArray:
    """Convert *ticks* to seconds, element by element the same float as `gpusim.core.clock.seconds`.

    Above 2⁵³ ticks (2.5 hours) a plain division would round twice. There, with 10¹² = 2¹² 5¹², the whole and the
    fractional part of ``8 ticks / 5¹²`` are each exact or far enough from a rounding boundary that their sum is
    rounded correctly. Holds below 2⁶⁰ ticks (13 days).
    """
    plain: FloatArray = ticks / TICKS_PER_S
    if not len(ticks) or int(ticks.max()) < 1 << 53:
        return plain
    whole, rest = np.divmod(ticks * 8, 5**12)
    split: FloatArray = (whole + rest / 5**12) * 2.0**-15
    return np.where(ticks < 1 << 53, plain, split)
