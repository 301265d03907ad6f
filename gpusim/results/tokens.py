"""When tokens came: exact times and gaps from steps and segments, never one object or row per token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gpusim.core.arrays import BoolArray, IntArray
from gpusim.results.columns import Records
from gpusim.results.request_log import NONE, RequestLog
from gpusim.results.statistics import Sample, WeightArray
from gpusim.results.step_log import StepLog


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """Of each request (num_requests,): tick at which its client has its first and last token (-1: none), and how many."""

    first_ps: IntArray
    last_ps: IntArray
    num_tokens: IntArray


@dataclass(frozen=True, slots=True)
class _Gaps:
    """Gaps in order of time: when they ended, how long they were, and of how many tokens they are."""

    times: IntArray
    values: IntArray
    weights: WeightArray


def token_times(requests: RequestLog, steps: Mapping[str, StepLog]) -> TokenTimes:
    """Look up first and last token of each request; a token's time is the end of its step, and what its delivery takes."""
    segments = requests.segments
    owners = segments["request"].copy()
    first = np.full(len(requests), NONE, np.int64)
    last = first.copy()
    num_tokens = np.zeros(len(requests), np.int64)
    firsts, lasts = _segment_ends(segments, requests, steps)
    # Of several segments of a request the first and the last one count.
    starts_request = np.diff(owners, prepend=-1) != 0
    ends_request = np.diff(owners, append=-1) != 0
    first[owners[starts_request]] = firsts[starts_request]
    last[owners[ends_request]] = lasts[ends_request]
    np.add.at(num_tokens, owners, segments["last_step"] - segments["first_step"] + 1)
    later = requests.api_ps * (num_tokens > 0)
    return TokenTimes(first + later, last + later, num_tokens)


def token_gaps(requests: RequestLog, steps: Mapping[str, StepLog], keep: BoolArray) -> Sample:
    """Return every gap between successive tokens of the requests in *keep*, in order of time.

    All tokens of one step that had a token in the step before waited equally long: one observation, weighted by how
    many they are. A gap between two segments of a request is an observation of its own.

    Args:
        requests: The requests with their segments.
        steps: The step log of each engine.
        keep: Which requests count (num_requests,).
    """
    segments = requests.segments
    if not keep.all():
        segments = segments[keep[segments["request"]]]
    parts = [_gaps_between(segments, requests, steps)]
    for code, engine in enumerate(requests.engines):
        own = segments if len(requests.engines) == 1 else segments[segments["engine"] == code]
        if len(own):
            parts.append(_gaps_within(own, steps[engine].delivered))
    parts = [part for part in parts if len(part.values)] or parts[:1]
    if len(parts) == 1:
        return Sample(parts[0].values, parts[0].weights)
    return _merged(parts)


def _merged(parts: list[_Gaps]) -> Sample:
    """Put the gaps of several logs, taken out of *parts*, in order of time, and at one tick in order of length."""
    columns = [[getattr(part, name) for part in parts] for name in ("weights", "values", "times")]
    parts.clear()
    # Column by column, so that there are never two of everything.
    times, values, weights = (np.concatenate(columns.pop()) for _ in range(3))
    order = np.argsort(times, kind="stable")
    times = times[order]
    tied = np.zeros(len(times) + 1, bool)
    np.equal(times[1:], times[:-1], out=tied[1:-1])
    # Only what is tied is sorted by both: nearly everything else is in order as it stands.
    where = np.flatnonzero(tied[1:] | tied[:-1])
    among = order[where]
    order[where] = among[np.lexsort((values[among], times[where]))]
    del times, tied
    values = values[order]
    return Sample(values, weights[order])


def _gaps_within(segments: Records, ends: IntArray) -> _Gaps:
    """Return the gap before each step of one engine in which tokens of *segments* followed the step before."""
    one = np.int32(1)
    coverage = np.zeros(len(ends) + 1, np.int32)
    np.add.at(coverage, segments["first_step"] + 1, one)
    np.subtract.at(coverage, segments["last_step"] + 1, one)
    np.cumsum(coverage, out=coverage, dtype=np.int32)
    coverage = coverage[:-1]
    covered = coverage > 0
    times = ends[covered]
    gaps = ends[:-1][covered[1:]]
    np.subtract(times, gaps, out=gaps)
    return _Gaps(times, gaps, coverage[covered])


def _gaps_between(segments: Records, requests: RequestLog, steps: Mapping[str, StepLog]) -> _Gaps:
    """Return the gap before each segment that continues a request, in order of time and length."""
    continues = np.flatnonzero(np.diff(segments["request"]) == 0) + 1
    times, _ = _segment_ends(segments[continues], requests, steps)
    _, before = _segment_ends(segments[continues - 1], requests, steps)
    gaps = times - before
    order = np.lexsort((gaps, times))
    return _Gaps(times[order], gaps[order], np.ones(len(order), np.int32))


def _segment_ends(segments: Records, requests: RequestLog, steps: Mapping[str, StepLog]) -> tuple[IntArray, IntArray]:
    """Return the ticks of the first and of the last token of each segment."""
    firsts = np.empty(len(segments), np.int64)
    lasts = np.empty(len(segments), np.int64)
    for code, engine in enumerate(requests.engines):
        here = segments["engine"] == code
        firsts[here] = steps[engine].delivered[segments["first_step"][here]]
        lasts[here] = steps[engine].delivered[segments["last_step"][here]]
    return firsts, lasts
