"""A guess of how long steps take, good enough to tell into which of them an arrival falls.

A wrong guess costs time and changes nothing: times come from the laws, and what was planned on a wrong one is planned
again. So the guess may leave out what is dear to know, such as where blocks will lie on the memory channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final, Protocol

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.model.step import StepShapes
from gpusim.serving.batch import Batch
from gpusim.serving.chunk_times import ChunkTimes, least_squares
from gpusim.serving.in_window import InWindow
from gpusim.serving.request import Request

CELL: Final = 64
"""Tokens of mean context between two points at which attention is asked for; laws jump at multiples of it."""
CELLS: Final = 16
"""Cells that are asked for together."""
MOST_ROWS: Final = 256
"""Steps that a fit looks back on."""


class StepTimes(Protocol):
    """What steps take in the absence of everything that depends on where KV lies."""

    def fixed_ticks(self, num_tokens: int, num_sampled: int) -> int:
        """Return the ticks of a step without its attention."""
        ...

    def host_ticks(self, num_sampled: int) -> int:
        """Return the ticks of the host beside a step, before which it does not end."""
        ...

    def attention_ticks(self, num_sequences: IntArray, context: IntArray, window: int | None = None) -> IntArray:
        """Return the ticks of the attention of decode steps, by sequences and tokens read of all together.

        Args:
            num_sequences: (steps,)
            context: (steps,)
            window: Of the layers that are meant; None: those without.
        """
        ...


class Forecast:
    """Guesses the ticks of steps: tables of the laws, linear between their points, and what they were off lately.

    Args:
        times: The laws.
        windows: That layers of the model have.
    """

    def __init__(self, times: StepTimes, windows: Sequence[int] = ()) -> None:
        self._times = times
        self._full = _Lines(times, None)
        self._local = [(InWindow(window), _Lines(times, window)) for window in windows]
        self._off = self._off_per_token = 0.0
        self._chunks = ChunkTimes()
        self._host_ticks = cache(times.host_ticks)

    def begin(self, decoding: Iterable[Request]) -> None:
        """Forget the steps of an earlier plan; one begins in which these requests decode."""
        for requests, _ in self._local:
            requests.restart(decoding)

    def look_at(self, batch: Batch, number: int) -> None:
        """Learn what the next guess is about: a batch, from a round of the engine on."""
        for requests, _ in self._local:
            requests.look_at(batch, number)

    def step(self, sequences: int, context: int, pairs: float, tokens: int, sampled: int) -> float:
        """Return the ticks of one step with chunks.

        Args:
            sequences: That take part.
            context: Tokens of context of all of them together.
            pairs: Of a new token of a prefill chunk and one it attends to.
            tokens: Rows of the activations.
            sampled: Sequences that get a token.
        """
        base, slope = self.line(sequences, (context - 1) // (sequences * CELL))
        fixed = self._times.fixed_ticks(tokens, sampled)
        more = self._chunks.ticks(context, pairs, tokens, sequences)
        on_gpu = fixed + base + slope * context + more + self._in_windows(sequences, 0)[0]
        return max(on_gpu, self._host_ticks(sampled))

    def decodes(self, num_decodes: int, context: int, steps: int, left: float | None) -> tuple[int, float]:
        """Return how many of up to *steps* decode steps begin within *left* ticks, and the ticks they take.

        Args:
            num_decodes: Sequences, each a token longer from step to step.
            context: Of all together in the first step.
            steps: At most, at least one.
            left: None: all of them.
        """
        fixed, host_ticks = self._times.fixed_ticks(num_decodes, num_decodes), self._host_ticks(num_decodes)
        done, spent = 0, 0.0
        while done < steps:
            cell = (context - 1) // (num_decodes * CELL)
            base, slope = self.line(num_decodes, cell)
            in_cell = min(steps - done, ((cell + 1) * num_decodes * CELL - context) // num_decodes + 1)
            first, growth = fixed + base + slope * context, slope * num_decodes
            if self._local:
                local, local_growth = self._in_windows(num_decodes, done)
                first, growth = first + local, growth + local_growth
            if first < host_ticks:
                first, growth = host_ticks, 0.0
            if left is not None and left - spent <= in_cell * first * 1.5:
                number = (left - spent) / first
                number = (left - spent) / (first + growth * min(number, in_cell) / 2)
                in_cell = min(in_cell, max(1, math.ceil(number)))
            done += in_cell
            spent += in_cell * (first + growth * (in_cell - 1) / 2)
            context += in_cell * num_decodes
            if left is not None and spent >= left:
                break
        return done, spent

    def line(self, sequences: int, cell: int) -> tuple[float, float]:
        """Return attention's ticks in a cell of mean context as constant and factor of the context, windows left out."""
        base, slope = self._full.line(sequences, cell)
        return base + self._off, slope + self._off_per_token

    def _in_windows(self, sequences: int, passed: int) -> tuple[float, float]:
        """Return the ticks of layers with windows after *passed* steps of the batch, and by how much they grow a step."""
        ticks = growth = 0.0
        for requests, lines in self._local:
            read = requests.read + passed * requests.growth
            base, slope = lines.line(sequences, (read - 1) // (sequences * CELL))
            ticks += base + slope * read
            growth += slope * requests.growth
        return ticks, growth

    def learn(self, shapes: StepShapes, attention_ticks: IntArray) -> None:
        """Find out by how much the tables are off, from the last of some steps that were timed.

        Args:
            shapes: What they computed.
            attention_ticks: (steps,) What attention took in each.
        """
        last = slice(-MOST_ROWS, None)
        sequences, pairs = shapes.num_sequences[last], shapes.chunk_pairs[last]
        context = (shapes.decode_context + shapes.chunk_context)[last]
        off = attention_ticks[last] - self._full.ticks(sequences, context)
        for requests, lines in self._local:
            seen = shapes.windows[requests.window]
            off -= lines.ticks(sequences, (seen.decode_context + seen.chunk_context)[last])
        chunked = pairs > 0
        if not chunked.all():
            plain = ~chunked
            rows = np.stack((np.ones(int(plain.sum())), context[plain]), axis=1)
            self._off, self._off_per_token = least_squares(rows, off[plain]).tolist()
        if chunked.any():
            off = off[chunked] - self._off - self._off_per_token * context[chunked]
            tokens = shapes.num_tokens[last][chunked]
            self._chunks.learn(context[chunked], pairs[chunked], tokens, sequences[chunked], off)


class _Lines:
    """Attention's ticks in layers with one window by sequences and tokens read, linear within a cell of their mean.

    Args:
        times: The laws.
        window: Of the layers; None: those without.
    """

    def __init__(self, times: StepTimes, window: int | None) -> None:
        self._times = times
        self._window = window
        self._known: dict[tuple[int, int], tuple[float, float]] = {}

    def line(self, sequences: int, cell: int) -> tuple[float, float]:
        """Return the ticks in a cell as constant and factor of the tokens."""
        known = self._known.get((sequences, cell))
        if known is None:
            self._ask(sequences, cell // CELLS * CELLS)
            known = self._known[sequences, cell]
        return known

    def ticks(self, sequences: IntArray, read: IntArray) -> FloatArray:
        """Return the ticks of steps, (steps,), by sequences and tokens read in each."""
        cells = (read - 1) // (sequences * CELL)
        lines = np.array([self.line(*key) for key in zip(sequences.tolist(), cells.tolist(), strict=True)])
        ticks: FloatArray = lines[:, 0] + lines[:, 1] * read
        return ticks

    def _ask(self, sequences: int, first: int) -> None:
        """Fill in the cells from *first* on for a number of sequences."""
        cells = np.arange(first, first + CELLS)
        low, high = cells * CELL * sequences + 1, (cells + 1) * CELL * sequences
        context = np.stack((low, high), axis=1)
        ticks = self._times.attention_ticks(np.full(2 * CELLS, sequences), context.ravel(), self._window)
        ticks = ticks.reshape(-1, 2)
        slopes = (ticks[:, 1] - ticks[:, 0]) / (high - low)
        lines = zip((ticks[:, 0] - slopes * low).tolist(), slopes.tolist(), strict=True)
        self._known.update(((sequences, cell), line) for cell, line in zip(cells.tolist(), lines, strict=True))
