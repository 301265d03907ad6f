"""The step log: when each step of an engine ended, and where the time of each run of steps went."""

from __future__ import annotations

from typing import Final

import numpy as np

from gpusim.core.clock import FloatArray, IntArray
from gpusim.results.columns import Column, Records
from gpusim.runtime.attribution import CATEGORIES

RUN: Final = np.dtype(
    [
        ("first_step", "i8"),
        ("start_ps", "i8"),
        ("num_decodes", "i4"),
        ("num_prefill_tokens", "i4"),
        ("num_tokens", "i4"),
        ("attribution_s", "f8", (len(CATEGORIES),)),
    ]
)
"""One run of steps: counts are per step, `attribution_s` is the sum over the run, by `CATEGORIES`."""


class StepLog:
    """Steps of one engine, numbered from 0 in the order they ran.

    A run is a number of steps of an unchanged batch, back to back; between runs the engine may idle. A step costs
    8 bytes (its end), a run 84.

    Args:
        engine: Name of the engine.
    """

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self._ends = Column(np.int64)
        self._runs = Column(RUN)
        self._last_end = 0

    def append(
        self,
        start: int,
        ends: IntArray,
        *,
        num_decodes: int,
        num_prefill_tokens: int,
        num_tokens: int,
        attribution_s: FloatArray,
    ) -> int:
        """Add a run of steps.

        Args:
            start: Tick at which its first step started.
            ends: Tick at which each of its steps ended, at least one, ascending.
            num_decodes: Sequences decoding in each step.
            num_prefill_tokens: Prompt tokens processed in each step.
            num_tokens: Tokens produced in each step.
            attribution_s: Seconds by `CATEGORIES`, summed over the run; together the time from *start* to the last end.

        Returns:
            The number of its first step.
        """
        assert len(ends), "a run has at least one step"
        assert self._last_end <= start <= ends[0], "steps of one engine do not overlap"
        first_step = len(self._ends)
        self._runs.append((first_step, start, num_decodes, num_prefill_tokens, num_tokens, attribution_s))
        self._ends.extend(ends)
        self._last_end = int(ends[-1])
        return first_step

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._ends.nbytes + self._runs.nbytes

    @property
    def ends(self) -> IntArray:
        """Tick at which each step ended (num_steps,)."""
        return self._ends.array()

    @property
    def starts(self) -> IntArray:
        """Tick at which each step started (num_steps,): the end of the one before, or the start of its run."""
        starts = np.empty(len(self), np.int64)
        starts[1:] = self.ends[:-1]
        starts[self.runs["first_step"]] = self.runs["start_ps"]
        return starts

    @property
    def runs(self) -> Records:
        """The runs (num_runs,), of dtype `RUN`."""
        return self._runs.array()

    @property
    def run_lengths(self) -> IntArray:
        """Steps in each run (num_runs,)."""
        return np.diff(self.runs["first_step"], append=len(self))

    @property
    def run_ends(self) -> IntArray:
        """Tick at which the last step of each run ended (num_runs,)."""
        return self.ends[self.runs["first_step"] + self.run_lengths - 1]

    @property
    def step_time_ps(self) -> int:
        """Ticks spent in steps; the engine idled for the rest."""
        return int((self.run_ends - self.runs["start_ps"]).sum())

    @property
    def attribution_s(self) -> FloatArray:
        """Seconds by `CATEGORIES`, all runs together (7,)."""
        total: FloatArray = self.runs["attribution_s"].sum(axis=0)
        return total

    def total(self, count: str) -> int:
        """Sum over all steps of *count*: `num_decodes`, `num_prefill_tokens` or `num_tokens`."""
        return int(self.runs[count] @ self.run_lengths)
