"""Sums over the kernels of a step, and tables of those that depend on one whole number alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.model.work import Kernel
from gpusim.runtime.attribution import CATEGORIES
from gpusim.runtime.foreign_load import IDLE, PATTERNS, Load
from gpusim.runtime.kernel_timer import KernelRows, KernelTimer, Rows
from gpusim.runtime.laws.collectives import Pattern

CHUNK: Final = 64
"""Rows by which a table grows: few calls of the laws, and little that is never asked for."""
_UNKNOWN: Final = np.iinfo(np.int64).min

_BOUND, _EVEN_BYTES, _SERVICE, _FLOPS, _TRAFFIC = range(len(CATEGORIES), len(CATEGORIES) + 5)
_NUM_REAL: Final = _TRAFFIC + 2 * len(PATTERNS)


@dataclass(frozen=True, slots=True)
class StepTotals:
    """Sums over operations of a step, for many sizes of it, a row each."""

    whole: IntArray
    """(rows, 2) Ticks of all operations, and of the kernels among them."""
    real: FloatArray
    """(rows, figures) All else, see the properties."""

    @classmethod
    def of(cls, counted: Iterable[tuple[int, Rows]], number: int) -> StepTotals:
        """Add up *number* rows of operations, each with how often a step runs it."""
        whole, real = np.zeros((number, 2), dtype=np.int64), np.zeros((number, _NUM_REAL))
        for count, rows in counted:
            whole[:, 0] += count * rows.ticks
            real[:, : len(CATEGORIES)] += count * rows.attribution_s
            real[:, _BOUND] += count * rows.bound_s
            if isinstance(rows, KernelRows):
                whole[:, 1] += count * rows.ticks
                real[:, _EVEN_BYTES] += count * rows.terms.even_bytes
                real[:, _SERVICE] += count * rows.demand_s
                real[:, _FLOPS] += count * rows.flops
            elif rows.among == "tensor":
                for place, pattern in enumerate(PATTERNS):
                    pair_bytes, link_s = rows.traffic(pattern)
                    real[:, _TRAFFIC + 2 * place] += count * pair_bytes
                    real[:, _TRAFFIC + 2 * place + 1] += count * link_s
        return cls(whole, real)

    @classmethod
    def joined(cls, tables: Sequence[StepTotals]) -> StepTotals:
        """Put *tables* one below the other."""
        return cls(np.concatenate([table.whole for table in tables]), np.concatenate([table.real for table in tables]))

    def __add__(self, other: StepTotals) -> StepTotals:
        """Add two tables of the same rows."""
        return StepTotals(self.whole + other.whole, self.real + other.real)

    def take(self, rows: IntArray) -> StepTotals:
        """Return a table of the given *rows* of this one."""
        return StepTotals(self.whole[rows], self.real[rows])

    @property
    def ticks(self) -> IntArray:
        """(rows,) Of all operations."""
        return self.whole[:, 0]

    @property
    def kernel_ticks(self) -> IntArray:
        """(rows,) Of the kernels among them."""
        return self.whole[:, 1]

    @property
    def attribution_s(self) -> FloatArray:
        """(rows, categories) Where the time of all operations goes."""
        return self.real[:, : len(CATEGORIES)]

    @property
    def bound_s(self) -> FloatArray:
        """(rows,) Of all operations, together, at least."""
        return self.real[:, _BOUND]

    @property
    def even_bytes(self) -> FloatArray:
        """(rows,) Of a rank's memory."""
        return self.real[:, _EVEN_BYTES]

    @property
    def service_s(self) -> FloatArray:
        """(rows,) Of each of its channels."""
        return self.real[:, _SERVICE]

    @property
    def flops(self) -> FloatArray:
        """(rows,) Of all kernels."""
        return self.real[:, _FLOPS]

    @property
    def traffic(self) -> dict[Pattern, tuple[FloatArray, FloatArray]]:
        """Of the replica's collectives: bytes on each arrow of a pattern, and the seconds they take, (rows,) each."""
        columns = self.real.T[_TRAFFIC:]
        return {pattern: (columns[2 * place], columns[2 * place + 1]) for place, pattern in enumerate(PATTERNS)}


class TotalsTable:
    """Sums over the kernels of a step that depend on one whole number alone, from 0 on.

    Args:
        timer: Times kernels.
        kernels: Returns them for many numbers at once, each at least 1, with how often a step runs each.
        load: Foreign traffic of constant rate beside them.
    """

    def __init__(
        self, timer: KernelTimer, kernels: Callable[[IntArray], list[tuple[int, Kernel]]], load: Load = IDLE
    ) -> None:
        self._timer = timer
        self._load = load
        self._kernels = kernels
        self._ticks: dict[int, list[int]] = {}
        self._chunks: list[StepTotals] = []
        self._shift = np.zeros(0, dtype=np.int64)
        """By how much the rows of each chunk's numbers lie behind those numbers, in the chunks put together; or `_UNKNOWN`."""
        self._joined: StepTotals | None = None

    def rows(self, numbers: IntArray) -> StepTotals:
        """Return the sums for each of *numbers*."""
        chunks = numbers // CHUNK
        if chunks.max() >= len(self._shift) or (self._shift[chunks] == _UNKNOWN).any():
            for chunk in np.unique(chunks).tolist():
                self._fill(chunk)
        if self._joined is None:
            self._joined = StepTotals.joined(self._chunks)
            self._chunks = [self._joined]
        return self._joined.take(numbers + self._shift[chunks])

    def ticks(self, number: int) -> int:
        """Return the ticks for one number."""
        chunk = number // CHUNK
        if chunk not in self._ticks:
            numbers = np.arange(chunk * CHUNK, (chunk + 1) * CHUNK)
            self._ticks[chunk] = self.rows(numbers).ticks.tolist()
        return self._ticks[chunk][number % CHUNK]

    def _fill(self, chunk: int) -> None:
        missing = chunk + 1 - len(self._shift)
        if missing > 0:
            self._shift = np.pad(self._shift, (0, missing), constant_values=_UNKNOWN)
        if self._shift[chunk] != _UNKNOWN:
            return
        first = chunk * CHUNK
        numbers = np.arange(max(1, first), first + CHUNK)
        counted = [(n, self._timer.rows(kernel, self._load)) for n, kernel in self._kernels(numbers)]  # type: ignore[arg-type]
        self._shift[chunk] = sum(len(part.ticks) for part in self._chunks) - first
        nothing = [StepTotals.of((), 1)] if first == 0 else []
        self._chunks += [*nothing, StepTotals.of(counted, len(numbers))]
        self._joined = None
