"""When the tokens of each step reach their clients, where not all are equally late."""

from __future__ import annotations

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.core.clock import ticks, ticks_array
from gpusim.core.random import BLOCK, Streams
from gpusim.results.columns import Column


class Delivery:
    """Delivery of one engine's steps with jitter: what the host does after a step, beside the next one on the GPU.

    The tokens of step k leave x_k after it, x_k exponential and keyed by k, but never before those of step k - 1: one
    process hands them out in order. Times are x_k less its mean after the step, for the mean is part of the API's time.
    A gap between two equal steps, long against the mean m, is theirs plus a Laplace variable of variance 2 m².

    Args:
        seed: Of the simulation.
        engine: Name of the engine, which has draws of its own.
        mean_s: Of the delays, in seconds.
    """

    def __init__(self, seed: int, engine: str, mean_s: float) -> None:
        self._streams = Streams(seed)
        self._stream = f"jitter/{engine}"
        self.mean_s = mean_s
        self._times = Column(np.int64)
        self._last_time = 0
        self._noted: tuple[IntArray, IntArray] = (np.empty(0, np.int64), np.empty(0, np.int64))
        """(steps,) Of the steps noted last: when they ended, and when they are delivered."""
        self._drawn: tuple[int, FloatArray] = (-1, np.empty(0))

    def note(self, ends: IntArray) -> None:
        """Add the next steps, which ended at ticks *ends* (steps,)."""
        first = len(self._times)
        delays = ticks_array(self._delays_s(first, len(ends))) - ticks(self.mean_s)
        times = np.maximum.accumulate(ends + delays)
        if first:
            np.maximum(times, self._last_time, out=times)
        self._times.extend(times)
        self._last_time = int(times[-1])
        self._noted = (ends, times)

    def later(self, end: int) -> int:
        """Return by how many ticks more than on average the step is late that ended at tick *end*, one of those noted last."""
        ends, times = self._noted
        step = int(np.searchsorted(ends, end))
        assert ends[step] == end, "one of the steps noted last ended then"
        return int(times[step]) - end

    @property
    def times(self) -> IntArray:
        """Ticks at which the tokens of each step are there, but for the API's time (num_steps,); never descending."""
        return self._times.array()

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._times.nbytes

    def _delays_s(self, first: int, count: int) -> FloatArray:
        blocks = range(first // BLOCK, (first + count - 1) // BLOCK + 1)
        drawn = np.concatenate([self._block(index) for index in blocks])
        start = first - blocks.start * BLOCK
        delays: FloatArray = drawn[start : start + count] * self.mean_s
        return delays

    def _block(self, index: int) -> FloatArray:
        """Return a block of draws of mean 1; the one used last is kept, as steps may come one by one."""
        if self._drawn[0] != index:
            self._drawn = (index, self._streams.block(self._stream, index).standard_exponential(BLOCK))
        return self._drawn[1]
