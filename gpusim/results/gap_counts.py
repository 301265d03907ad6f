"""Gaps between tokens, counted anew for any choice of requests: by step, never by token."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from gpusim.core.arrays import BoolArray, FloatArray, IntArray
from gpusim.results.bootstrap import weighted_quantiles
from gpusim.results.columns import seconds_array
from gpusim.results.result import Result

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_AT_A_TIME: Final = 1 << 23
"""Counts of gaps that are held at once: 64 MB."""


@dataclass(frozen=True)
class GapCounts:
    """Every different gap of a run, and how to count the tokens that waited for it.

    All tokens of one step that had a token in the step before waited equally long: one gap. So does a gap between two
    segments of a request.

    Args:
        gaps_s: The gaps in seconds (num_gaps,): first those before steps, then those between segments.
        changes: Of each request (num_requests, num_steps), sparse: +1 at the step that ends its first gap, -1 behind the
            last one; the sum over requests, added up from step to step, is how many tokens waited for each step.
        owners: Of each gap between segments its request.
        sums_s: Of each request the sum of its gaps (num_requests,).
        numbers: Of each request the number of its gaps (num_requests,).
    """

    gaps_s: FloatArray
    changes: csr_array
    owners: IntArray
    sums_s: FloatArray
    numbers: IntArray

    @classmethod
    def of(cls, result: Result, rows: IntArray) -> GapCounts:
        """Take the gaps of the requests in *rows* of the log of *result*; -1 stands for one that has none."""
        requests, steps = result.record.requests, result.record.steps
        begins = np.cumsum([0, *(len(steps[engine]) for engine in requests.engines)])
        ends = np.concatenate([steps[engine].delivered for engine in requests.engines])
        place = np.full(len(requests), -1)
        place[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
        segments = requests.segments
        segments = segments[place[segments["request"]] >= 0]
        owners = place[segments["request"]]
        # All engines' steps on one line, one engine after the other.
        first, last = (segments[name] + begins[segments["engine"]] for name in ("first_step", "last_step"))
        follows = np.flatnonzero(np.diff(owners) == 0) + 1
        between = ends[first[follows]] - ends[last[follows - 1]]
        sums = np.zeros(len(rows), np.int64)
        np.add.at(sums, owners, ends[last] - ends[first])
        np.add.at(sums, owners[follows], between)
        numbers = np.zeros(len(rows), np.int64)
        np.add.at(numbers, owners, last - first)
        np.add.at(numbers, owners[follows], 1)
        return cls(
            seconds_array(np.concatenate([np.diff(ends, prepend=0), between])),
            _changes(owners, first, last, (len(rows), len(ends) + 1)),
            owners[follows],
            seconds_array(sums),
            numbers,
        )

    @cached_property
    def num_observed(self) -> int:
        """Number of different gaps that any token waited for."""
        return int(np.count_nonzero(self.weights(np.ones((1, len(self.sums_s)), np.int64))))

    def are_beyond(self, per_mille: int) -> BoolArray:
        """Tell which requests waited for a gap beyond the quantile *per_mille* of all (num_requests,)."""
        ones = np.ones((1, len(self.sums_s)), np.int64)
        is_long = self.gaps_s > self.quantiles_s(ones, (per_mille,))[0, 0]
        num_steps = self.changes.shape[1] - 1
        before = np.concatenate([[0], np.cumsum(is_long[:num_steps])])
        number = -(self.changes @ before)
        np.add.at(number, self.owners, is_long[num_steps:])
        found: BoolArray = number > 0
        return found

    def means_s(self, counts: IntArray) -> FloatArray:
        """Return the mean gap in every sample (num_samples,); NaN where a sample has none."""
        with np.errstate(invalid="ignore"):
            means: FloatArray = counts @ self.sums_s / (counts @ self.numbers)
        return means

    def quantiles_s(self, counts: IntArray, per_mille: tuple[int, ...]) -> FloatArray:
        """Return quantiles of the gaps in every sample (num_samples, len(per_mille)).

        Args:
            counts: How often each request is in each sample (num_samples, num_requests).
            per_mille: The quantiles, in thousandths.
        """
        rows = max(1, _AT_A_TIME // len(self.gaps_s))
        parts = [
            weighted_quantiles(self.gaps_s, self.weights(counts[at : at + rows]), per_mille)
            for at in range(0, len(counts), rows)
        ]
        return np.concatenate(parts)

    def weights(self, counts: IntArray) -> IntArray:
        """Return how many tokens waited for each gap in every sample (num_samples, num_gaps)."""
        waiting = np.cumsum((self.changes.T @ counts.T).T, axis=1)[:, :-1]
        return np.concatenate([waiting, counts[:, self.owners]], axis=1)


def _changes(owners: IntArray, first: IntArray, last: IntArray, shape: tuple[int, int]) -> csr_array:
    from scipy.sparse import csr_array  # noqa: PLC0415 - slow to import

    values = np.repeat(np.array([1, -1]), len(owners))
    return csr_array((values, (np.tile(owners, 2), np.concatenate([first, last]) + 1)), shape=shape)
