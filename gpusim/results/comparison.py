"""Runs held against a baseline: what changed, by how much, and whether that is more than noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gpusim.core.arrays import BoolArray
from gpusim.core.random import Streams
from gpusim.errors import GpusimError
from gpusim.results.bootstrap import MIN_BLOCKS, Replicates, draw_counts, leave_out_counts, quantile_degrees
from gpusim.results.change import UNITS, Change, change_of, check_metrics, judged
from gpusim.results.differences import Difference, differences
from gpusim.results.observations import Observations, is_percentile
from gpusim.results.result import Result
from gpusim.results.setup import UNKNOWN, About
from gpusim.results.summary import scenario_hash
from gpusim.spelling import counted

NUM_SAMPLES: Final = 400
"""Bootstrap samples: a spread is then known to 4 %."""
UNPAIRED_BLOCKS: Final = 2
"""Runs of different requests share no queue that would cancel, and the rule for blocks finds those of one run too short."""
MIN_BEYOND: Final = 10
"""Observations beyond a percentile, below which nothing is said of how sure it is."""


@dataclass(frozen=True)
class Versus:
    """One run against the baseline.

    Args:
        name: Of the run.
        changes: Of each metric.
        differences: Keys in which the scenarios differ.
        is_paired: Whether both served the same requests, which were then drawn together.
        num_requests: Measured requests of the baseline and of the run.
        block_length: Requests in a block of the bootstrap.
        about: What served the run, and its warnings.
    """

    name: str
    changes: tuple[Change, ...]
    differences: tuple[Difference, ...]
    is_paired: bool
    num_requests: tuple[int, int]
    block_length: int
    about: About = UNKNOWN

    def __getitem__(self, metric: str) -> Change:
        for change in self.changes:
            if change.metric == metric:
                return change
        raise KeyError(metric)

    @property
    def verdict(self) -> str:
        """All changes in one sentence."""
        verdicts = [change.verdict for change in self.changes]
        known = [verdict for verdict in verdicts if verdict != "too few requests to tell"]
        if not known:
            return "too few requests to tell"
        if all(verdict == "the same" for verdict in known):
            return "the same"
        counts = [
            (verdicts.count(word), word)
            for word in ("worse", "better", "worse here", "better here", "too small to matter")
        ]
        listed = ", ".join(f"{number} {word}" for number, word in counts if number)
        return f"{listed}, of {counted(len(known), 'metric')}" if listed else "no change within noise"

    @property
    def is_of_few(self) -> bool:
        """Whether some of it is true of the requests that both runs served, which are too few to tell of others."""
        return any(change.verdict in {"better here", "worse here"} for change in self.changes)


@dataclass(frozen=True)
class Comparison:
    """What `gpusim.compare` returns.

    Args:
        baseline: Name of the run that the others are compared with.
        runs: The others, in order.
        confidence: Of each interval alone, and of all verdicts on a run together.
        at_least: Smallest change that matters, as a part of the baseline.
        about: What served the baseline, and its warnings.
    """

    baseline: str
    runs: tuple[Versus, ...]
    confidence: float
    at_least: float
    about: About = UNKNOWN

    def __iter__(self) -> Iterator[Versus]:
        return iter(self.runs)

    def __getitem__(self, metric: str) -> Change:
        """Return the change of *metric* in the first run after the baseline."""
        return self.runs[0][metric]

    @property
    def verdict(self) -> str:
        """Of the first run after the baseline."""
        return self.runs[0].verdict


def compare(
    a: Result,
    b: Result,
    *more: Result,
    metrics: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    confidence: float = 0.95,
    at_least: float = 0.0,
) -> Comparison:
    """Compare runs with the baseline *a*.

    Args:
        a: The baseline.
        b: A run to compare with it.
        more: Further runs; each is compared with *a*.
        metrics: What to look at; all of `gpusim.results.change.UNITS` by default. Verdicts allow for how many these are.
        names: What the runs are called, the baseline first.
        confidence: Of each interval alone, and of all verdicts on a run together.
        at_least: Smallest change that matters, as a part of the baseline.

    Raises:
        GpusimError: If a metric is unknown, the confidence no probability, a run has no measured request, or there are not as
            many names as runs.
    """
    chosen = list(dict.fromkeys(UNITS if metrics is None else metrics))
    check_metrics(chosen)
    if not 0 < confidence < 1:
        raise GpusimError(f"confidence must lie between 0 and 1, as 0.95 does, not be {confidence:g}")
    called = list(names or (chr(ord("A") + place) for place in range(2 + len(more))))
    if len(called) != 2 + len(more):
        raise GpusimError(f"{2 + len(more)} runs need as many names, not {len(called)}")
    base = _Run(a)
    runs = [
        _versus(name, base, _Run(run), metrics=chosen, confidence=confidence, at_least=at_least)
        for name, run in zip(called[1:], (b, *more), strict=True)
    ]
    return Comparison(called[0], tuple(runs), confidence, at_least, base.about)


def compare_some(
    a: Result, b: Result, some: tuple[BoolArray, BoolArray], *, metrics: list[str], confidence: float
) -> Versus:
    """Compare *some* of the requests of *b* with some of those of *a*.

    Args:
        a: The baseline.
        b: The run to compare with it.
        some: Which requests of *a* and of *b* are looked at, (num_requests,) each.
        metrics: What to look at.
        confidence: As `compare` has it.
    """
    runs = (_Run(result, mask) for result, mask in zip((a, b), some, strict=True))
    return _versus("", *runs, metrics=metrics, confidence=confidence, at_least=0.0)


class _Run:
    """A result and what the bootstrap needs of it."""

    def __init__(self, result: Result, only: BoolArray | None = None) -> None:
        self.scenario = result.record.scenario
        self.about = About.of(result.record)
        self.seed = result.record.seed
        self.observed = Observations.of(result, only)

    def is_like(self, other: _Run) -> bool:
        """Tell whether both served the same requests: as many, of the same lengths, arriving alike or drawn alike."""
        mine, theirs = self.observed.rows, other.observed.rows
        if len(mine) != len(theirs):
            return False
        if any((mine[name] != theirs[name]).any() for name in ("prompt_tokens", "output_tokens")):
            return False
        arrive_alike = bool((mine["arrival_ps"] == theirs["arrival_ps"]).all())
        return arrive_alike or (self.seed == other.seed and bool((mine["index"] == theirs["index"]).all()))

    def most_degrees(self, metric: str, length: int) -> float:
        """Return the most degrees of freedom that the spread of *metric* can have; 0 if too little was observed."""
        num_blocks, beyond = len(self.observed) / length, self.observed.beyond(metric)
        if num_blocks < MIN_BLOCKS or beyond < MIN_BEYOND:
            return 0.0
        if not is_percentile(metric):
            return num_blocks - 1
        return min(num_blocks - 1, quantile_degrees(min(beyond, self.observed.blocks_beyond(metric, length))))

    def replicates(self, length: int, stream: str) -> dict[str, Replicates]:
        """Return every metric, drawn again in blocks of *length* requests with the random numbers of *stream*.

        What is left to do when the last request has arrived is drawn too.
        """
        number = len(self.observed)
        as_it_was = np.ones((1, number), np.int64)
        drawn = draw_counts(number, length, NUM_SAMPLES, Streams(0).block(f"bootstrap/{stream}", 0))
        counts = np.concatenate([as_it_was, drawn, leave_out_counts(number, length)])
        tails_s = np.full(len(counts), self.observed.left_s[-1])
        tails_s[1 : 1 + NUM_SAMPLES] = self.observed.tails_s(NUM_SAMPLES)
        samples = self.observed.samples(counts, tails_s)
        return {
            metric: Replicates(float(values[0]), values[1 : 1 + NUM_SAMPLES], values[1 + NUM_SAMPLES :])
            for metric, values in samples.items()
            if np.isfinite(values[0])
        }


def _block_length(a: _Run, b: _Run, *, is_paired: bool) -> int:
    """Return the requests in a block: the longer of both, and `UNPAIRED_BLOCKS` times that where queues do not cancel."""
    length = max(a.observed.block_length, b.observed.block_length)
    return min(math.ceil(length if is_paired else UNPAIRED_BLOCKS * length), len(a.observed), len(b.observed))


def _versus(name: str, a: _Run, b: _Run, *, metrics: list[str], confidence: float, at_least: float) -> Versus:
    numbers = len(a.observed), len(b.observed)
    if not all(numbers):
        raise GpusimError("a run without measured requests cannot be compared; shorten measure.warmup and cooldown")
    is_paired = a.is_like(b)
    length = _block_length(a, b, is_paired=is_paired)
    streams = [""] * 2 if is_paired else [f"{scenario_hash(run.scenario)}/{run.seed}" for run in (a, b)]
    old, new = (run.replicates(length, stream) for run, stream in zip((a, b), streams, strict=True))
    changes = [
        change_of(
            metric,
            old[metric],
            new[metric],
            is_paired=is_paired,
            confidence=confidence,
            most_degrees=min(run.most_degrees(metric, length) for run in (a, b)),
        )
        for metric in metrics
        if metric in old and metric in new
    ]
    differing = tuple(differences(a.scenario, b.scenario))
    verdicts = tuple(judged(changes, is_paired=is_paired, confidence=confidence, at_least=at_least))
    return Versus(name, verdicts, differing, is_paired, numbers, length, b.about)
