"""Where the time of an engine's steps went, between any two of them."""

from __future__ import annotations

import numpy as np

from gpusim.core.arrays import BoolArray, FloatArray, IntArray
from gpusim.results.step_log import StepLog


class TimeSpent:
    """Time by category of an engine's steps. The time of a run of steps is divided over them as they are long.

    Args:
        log: Of the engine.
    """

    def __init__(self, log: StepLog) -> None:
        self.starts, self.ends = log.starts, log.ends
        self.runs = log.runs
        self.run_of = np.repeat(np.arange(len(log.runs)), log.run_lengths)
        """(steps,) Number of the run that each step belongs to."""
        self._attribution_ps = log.runs["attribution_ps"]
        self._run_ps = np.maximum(log.run_ends - log.runs["start_ps"], 1)

    def count(self, name: str) -> IntArray:
        """Return `num_decodes`, `num_prefill_tokens` or `num_tokens` of each step (steps,)."""
        counted: IntArray = self.runs[name][self.run_of].astype(np.int64)
        return counted

    def of_steps(self, steps: IntArray, weights: FloatArray) -> FloatArray:
        """Return the ticks of *steps* by category, each counted *weights* times (categories,)."""
        runs = self.run_of[steps]
        share = np.bincount(runs, weights * (self.ends[steps] - self.starts[steps]), minlength=len(self.runs))
        spent: FloatArray = (share / self._run_ps) @ self._attribution_ps.astype(np.float64)
        return spent

    def between(self, first: IntArray, last: IntArray, counts: BoolArray) -> FloatArray:
        """Return the ticks by category of the steps from *first* to *last*, included, of runs that count.

        Args:
            first: (rows,)
            last: (rows,) Not before *first*.
            counts: (runs,)

        Returns:
            (rows, categories)
        """
        counted = self._attribution_ps * counts[:, None]
        before = np.cumsum(counted, axis=0) - counted
        first_run, last_run = self.run_of[first], self.run_of[last]
        whole = before[last_run] - before[first_run]
        started = self.starts[first] - self.runs["start_ps"][first_run]
        ended = self.ends[last] - self.runs["start_ps"][last_run]
        parts = [
            counted[runs] * (ticks / self._run_ps[runs])[:, None]
            for runs, ticks in ((last_run, ended), (first_run, started))
        ]
        spent: FloatArray = whole + (parts[0] - parts[1])
        return spent


def spread_in_runs(log: StepLog) -> float:
    """Return by how much the longest step of a run exceeds the shortest one at most, as a part of it."""
    if not len(log):
        return 0.0
    lengths, first = log.ends - log.starts, log.runs["first_step"]
    longest, shortest = np.maximum.reduceat(lengths, first), np.minimum.reduceat(lengths, first)
    return float((longest / np.maximum(shortest, 1)).max()) - 1
