"""A guess of what attention takes longer in a step because of its prefill chunks."""

from __future__ import annotations

from typing import Final

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray

MOST_ROWS: Final = 256
"""Steps that a fit looks back on."""


class ChunkTimes:
    """Ticks linear in what chunks are, by the steps with chunks that were timed last.

    A chunk's tiles are dealt out over the SMs. Many of them take as long as all pairs of a query and a key; few as long as one
    tile, which is as long as the context it sees: so both count, beside the tokens of chunks and the decodes and their contexts.
    """

    def __init__(self) -> None:
        self._seen: FloatArray = np.empty((0, 7))
        self._factors = [0.0] * 6

    def ticks(self, context: int, pairs: float, tokens: int, sequences: int) -> float:
        """Return the ticks that chunks add to a step.

        Args:
            context: Tokens of context of all sequences together.
            pairs: Of a new token of a chunk and one it attends to.
            tokens: New ones, those of decodes with them.
            sequences: That take part.
        """
        once, per_token, per_pair, per_seen, per_new, per_sequence = self._factors
        seen = per_seen * pairs / tokens
        return once + per_token * context + per_pair * pairs + seen + per_new * tokens + per_sequence * sequences

    def learn(
        self, context: IntArray, pairs: FloatArray, tokens: IntArray, sequences: IntArray, ticks: FloatArray
    ) -> None:
        """Take note of steps with chunks, (steps,) each, and of the *ticks* that chunks added to them."""
        rows: FloatArray = np.stack(
            (np.ones(len(ticks)), context, pairs, pairs / tokens, tokens, sequences, ticks), axis=1, dtype=np.float64
        )
        self._seen = np.concatenate((self._seen, rows))[-MOST_ROWS:]
        self._factors = least_squares(self._seen[:, :-1], self._seen[:, -1]).tolist()


def least_squares(rows: FloatArray, values: FloatArray) -> FloatArray:
    """Return the factors of the columns of *rows* that come nearest to *values*."""
    scale = np.abs(rows).max(axis=0)
    scale[scale == 0.0] = 1.0
    factors: FloatArray = np.linalg.lstsq(rows / scale, values, rcond=1e-9)[0] / scale
    return factors
