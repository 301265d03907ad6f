"""Columns that grow in chunks, and ticks as seconds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.core.clock import TICKS_PER_S

Records: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
"""A numpy array of one dtype, often a structured one."""

_SMALLEST_CHUNK: Final = 256
_LARGEST_CHUNK: Final = 1 << 16
_MOST_WAITING: Final = 1024


class Column:
    """A numpy array that grows without copying what it holds.

    Each chunk is a quarter of what is there, up to 65 536 rows: little is in reserve, and chunks stay few. Single rows
    wait in a list until there are enough to be worth a conversion.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self._full: list[Records] = []
        self._num_full = 0
        self._open: Records = np.empty(_SMALLEST_CHUNK, dtype)
        self._used = 0
        self._waiting: list[Any] = []

    def __len__(self) -> int:
        return self._num_full + self._used + len(self._waiting)

    @property
    def nbytes(self) -> int:
        """Bytes held, reserve included."""
        self._settle()
        return sum(chunk.nbytes for chunk in self._full) + self._open.nbytes

    def append(self, row: Any) -> None:
        """Add one row: a number, or a tuple for a structured dtype."""
        self._waiting.append(row)
        if len(self._waiting) == _MOST_WAITING:
            self._settle()

    def extend(self, rows: Records) -> None:
        """Add all *rows*, in order."""
        self._settle()
        self._put(rows)

    def last(self) -> Records:
        """Return the last row (1,), to be changed in place; arrays handed out before keep it as it was."""
        self._settle()
        assert len(self), "an empty column has no last row"
        if not self._used:
            *self._full, chunk = self._full
            self._full.append(chunk[:-1])
            self._num_full -= 1
            self._put(chunk[-1:])
        return self._open[self._used - 1 : self._used]

    def array(self) -> Records:
        """Return all rows as one read-only array; repeated calls without growth copy nothing."""
        self._settle()
        if self._used:
            joined = np.empty(len(self), self._open.dtype)
            done = 0
            # Each chunk goes as soon as it is copied, so that there are never two of everything.
            for chunk in self._drain():
                joined[done : done + len(chunk)] = chunk
                done += len(chunk)
            joined.flags.writeable = False
            self._full, self._num_full, self._used = [joined], done, 0
        return self._full[0] if self._full else self._open[:0]

    def _drain(self) -> Iterator[Records]:
        self._full.reverse()
        while self._full:
            yield self._full.pop()
        yield self._open[: self._used]

    def _settle(self) -> None:
        """Move the waiting rows into the chunks."""
        if self._waiting:
            self._put(np.array(self._waiting, self._open.dtype))
            self._waiting.clear()

    def _put(self, rows: Records) -> None:
        done = 0
        while done < len(rows):
            if self._used == len(self._open):
                self._open_next()
            count = min(len(rows) - done, len(self._open) - self._used)
            self._open[self._used : self._used + count] = rows[done : done + count]
            self._used += count
            done += count

    def _open_next(self) -> None:
        self._full.append(self._open)
        self._num_full += self._used
        rows = min(max(_SMALLEST_CHUNK, self._num_full // 4), _LARGEST_CHUNK)
        self._open = np.empty(rows, self._open.dtype)
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
