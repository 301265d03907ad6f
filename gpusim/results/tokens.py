"""When tokens came: exact times and gaps from steps and segments, never one object or row per token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from gpusim.core.clock import IntArray
from gpusim.results.columns import Records
from gpusim.results.request_log import NONE, RequestLog
from gpusim.results.statistics import Sample
from gpusim.results.step_log import StepLog

BoolArray: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """Of each request (num_requests,): tick of its first and last token (-1: none) and how many it got."""

    first_ps: IntArray
    last_ps: IntArray
    num_tokens: IntArray


def token_times(requests: RequestLog, steps: Mapping[str, StepLog]) -> TokenTimes:
    """Look up first and last token of each request; a token's time is the end of its step."""
    segments = requests.segments
    first = np.full(len(requests), NONE, np.int64)
    last = first.copy()
    num_tokens = np.zeros(len(requests), np.int64)
    firsts, lasts = _segment_ends(segments, requests, steps)
    starts_request = np.diff(segments["request"], prepend=-1) != 0
    ends_request = np.diff(segments["request"], append=-1) != 0
    first[segments["request"][starts_request]] = firsts[starts_request]
    last[segments["request"][ends_request]] = lasts[ends_request]
    np.add.at(num_tokens, segments["request"], segments["last_step"] - segments["first_step"] + 1)
    return TokenTimes(first, last, num_tokens)


def token_gaps(requests: RequestLog, steps: Mapping[str, StepLog], keep: BoolArray) -> Sample:
    """Return every gap between successive tokens of the requests in *keep*, in order of time.

    All tokens of one step that had a token in the step before waited equally long: one observation, weighted by how
    many they are. A gap between two segments of a request is an observation of its own.

    Args:
        requests: The requests with their segments.
        steps: The step log of each engine.
        keep: Which requests count (num_requests,).
    """
    segments = requests.segments[keep[requests.segments["request"]]]
    parts = [_gaps_between(segments, requests, steps)]
    for code, engine in enumerate(requests.engines):
        parts.append(_gaps_within(segments[segments["engine"] == code], steps[engine].ends))
    times, gaps, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    if sum(len(part[0]) > 0 for part in parts) > 1:
        # Ties in time are ordered by value, so that the order of engines cannot matter.
        order = np.lexsort((gaps, times))
        gaps, weights = gaps[order], weights[order]
    return Sample(gaps, weights)


def _gaps_within(segments: Records, ends: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return (time, gap, tokens) of each step of one engine in which tokens of *segments* followed the step before."""
    coverage = np.bincount(segments["first_step"] + 1, minlength=len(ends) + 1)
    coverage -= np.bincount(segments["last_step"] + 1, minlength=len(ends) + 1)
    np.cumsum(coverage, out=coverage)
    covered = np.flatnonzero(coverage)
    times = ends[covered]
    return times, times - ends[covered - 1], coverage[covered]


def _gaps_between(
    segments: Records, requests: RequestLog, steps: Mapping[str, StepLog]
) -> tuple[IntArray, IntArray, IntArray]:
    """Return (time, gap, 1) of each segment that continues a request."""
    firsts, lasts = _segment_ends(segments, requests, steps)
    continues = np.flatnonzero(np.diff(segments["request"]) == 0) + 1
    times = firsts[continues]
    return times, times - lasts[continues - 1], np.ones(len(continues), np.int64)


def _segment_ends(segments: Records, requests: RequestLog, steps: Mapping[str, StepLog]) -> tuple[IntArray, IntArray]:
    """Return the ticks of the first and of the last token of each segment."""
    firsts = np.empty(len(segments), np.int64)
    lasts = np.empty(len(segments), np.int64)
    for code, engine in enumerate(requests.engines):
        here = segments["engine"] == code
        firsts[here] = steps[engine].ends[segments["first_step"][here]]
        lasts[here] = steps[engine].ends[segments["last_step"][here]]
    return firsts, lasts
