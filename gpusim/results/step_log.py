"""The step log: when each step of an engine ended, and where the time of each run of steps went."""

from __future__ import annotations

from typing import Final

import numpy as np

from gpusim.core.arrays import IntArray
from gpusim.results.columns import Column, Records
from gpusim.results.delivery import Delivery
from gpusim.runtime.attribution import CATEGORIES

RUN: Final = np.dtype(
    [
        ("first_step", "i8"),
        ("start_ps", "i8"),
        ("num_decodes", "i4"),
        ("num_prefill_tokens", "i4"),
        ("num_tokens", "i4"),
        ("kv_blocks", "i4"),
        ("attribution_ps", "i8", (len(CATEGORIES),)),
    ]
)
"""One run of steps: counts are per step, `kv_blocks` is the most blocks held in any of them, `attribution_ps` is the sum
over the run in ticks, by `CATEGORIES`."""


COUNTS: Final = ("num_decodes", "num_prefill_tokens", "num_tokens")


class StepLog:
    """Steps of one engine, numbered from 0 in the order they ran.

    A run is a number of steps of an unchanged batch, back to back; between runs the engine may idle. A step costs
    8 bytes (its end), a run 96.

    Args:
        engine: Name of the engine.
        delivery: When its tokens are with their clients; None: at the end of their step. Costs 8 bytes a step more.
    """

    def __init__(self, engine: str, delivery: Delivery | None = None) -> None:
        self.engine = engine
        self._delivery = delivery
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
        attribution_ps: IntArray,
        kv_blocks: int = 0,
        continues: bool = False,
    ) -> int:
        """Add one run of steps; see `extend`.

        Args:
            start: Tick at which its first step started.
            ends: Tick at which each of its steps ended, at least one, ascending.
            num_decodes: Sequences decoding in each step.
            num_prefill_tokens: Prompt tokens processed in each step.
            num_tokens: Tokens produced in each step.
            attribution_ps: Ticks by `CATEGORIES` (8,), which sum to the time from *start* to the last end.
            kv_blocks: The most KV blocks that requests that are not over held in any of its steps.
            continues: The run logged last goes on.

        Returns:
            The number of its first step.
        """
        return self.extend(
            np.array([start]),
            np.array([len(ends)]),
            ends,
            num_decodes=np.array([num_decodes]),
            num_prefill_tokens=np.array([num_prefill_tokens]),
            num_tokens=np.array([num_tokens]),
            attribution_ps=attribution_ps[None],
            kv_blocks=np.array([kv_blocks]),
            continues=continues,
        )

    def extend(
        self,
        starts: IntArray,
        lengths: IntArray,
        ends: IntArray,
        *,
        num_decodes: IntArray,
        num_prefill_tokens: IntArray,
        num_tokens: IntArray,
        attribution_ps: IntArray,
        kv_blocks: IntArray,
        continues: bool = False,
    ) -> int:
        """Add runs of steps, at least one.

        Args:
            starts: Tick at which the first step of each run started (runs,).
            lengths: Steps of each run (runs,), at least one.
            ends: Ticks at which the steps of all these runs ended, one run after the other (steps,).
            num_decodes: Sequences decoding in each step of a run (runs,).
            num_prefill_tokens: Prompt tokens processed in each step of a run (runs,).
            num_tokens: Tokens produced in each step of a run (runs,).
            attribution_ps: Ticks by `CATEGORIES`, summed over each run (runs, 8); together they are its time.
            kv_blocks: The most KV blocks that requests that are not over held in any step of a run (runs,).
            continues: The first of these runs is the one logged last, going on back to back with the same counts; it
                makes no row of its own.

        Returns:
            The number of the first step.
        """
        first_step = len(self._ends)
        after = np.cumsum(lengths)
        before = after - lengths
        self._check(starts, lengths, before, ends, attribution_ps)
        rows = np.empty(len(starts), RUN)
        rows["first_step"] = first_step + before
        rows["start_ps"] = starts
        rows["num_decodes"] = num_decodes
        rows["num_prefill_tokens"] = num_prefill_tokens
        rows["num_tokens"] = num_tokens
        rows["kv_blocks"] = kv_blocks
        rows["attribution_ps"] = attribution_ps
        self._runs.extend(self._continued(rows) if continues else rows)
        self._ends.extend(ends)
        self._last_end = int(ends[-1])
        if self._delivery is not None:
            self._delivery.note(ends)
        return first_step

    def _check(
        self, starts: IntArray, lengths: IntArray, before: IntArray, ends: IntArray, attribution_ps: IntArray
    ) -> None:
        """Hold the caller to the clock: steps follow one another, and their reasons make up their time."""
        assert len(starts), "at least one run"
        assert lengths.min() > 0, "a run has at least one step"
        assert before[-1] + lengths[-1] == len(ends), "every step belongs to a run"
        last_ends = ends[before + lengths - 1]
        assert self._last_end <= starts[0], "steps of one engine do not overlap"
        assert (starts <= ends[before]).all(), "a step ends after it started"
        assert (starts[1:] >= last_ends[:-1]).all(), "steps of one engine do not overlap"
        assert (attribution_ps.sum(axis=1) == last_ends - starts).all(), "attribution adds up to the time of the run"

    def _continued(self, rows: Records) -> Records:
        """Add the first of *rows* to the run logged last and return the others."""
        last = self._runs.last()
        assert rows["start_ps"][0] == self._last_end, "a run that goes on does so back to back"
        assert all(last[name] == rows[name][0] for name in COUNTS), "a run that goes on has the same batch"
        last["kv_blocks"] = max(last["kv_blocks"], rows["kv_blocks"][0])
        last["attribution_ps"] += rows["attribution_ps"][0]
        return rows[1:]

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._ends.nbytes + self._runs.nbytes + (0 if self._delivery is None else self._delivery.nbytes)

    @property
    def ends(self) -> IntArray:
        """Tick at which each step ended (num_steps,)."""
        return self._ends.array()

    @property
    def delivered(self) -> IntArray:
        """Tick at which the tokens of each step are with their clients, but for the API's time (num_steps,)."""
        return self.ends if self._delivery is None else self._delivery.times

    @property
    def jitter_s(self) -> float:
        """Mean of the delays of delivery in seconds; 0 without any."""
        return 0.0 if self._delivery is None else self._delivery.mean_s

    def later(self, end: int) -> int:
        """Return by how many ticks the step that ended at tick *end*, one of those added last, is late beyond the API's time."""
        return 0 if self._delivery is None else self._delivery.later(end)

    def delivered_by(self, delivery: Delivery) -> StepLog:
        """Return the same steps with another delivery of their tokens."""
        log = StepLog(self.engine, delivery)
        runs = self.runs
        if len(runs):
            log.extend(
                runs["start_ps"],
                self.run_lengths,
                self.ends,
                num_decodes=runs["num_decodes"],
                num_prefill_tokens=runs["num_prefill_tokens"],
                num_tokens=runs["num_tokens"],
                attribution_ps=runs["attribution_ps"],
                kv_blocks=runs["kv_blocks"],
            )
        return log

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
    def attribution_ps(self) -> IntArray:
        """Ticks by `CATEGORIES`, all runs together (8,); they sum to `step_time_ps`."""
        total: IntArray = self.runs["attribution_ps"].sum(axis=0)
        return total

    def total(self, count: str) -> int:
        """Sum over all steps of *count*: `num_decodes`, `num_prefill_tokens` or `num_tokens`."""
        return int(self.runs[count] @ self.run_lengths)
