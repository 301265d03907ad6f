"""Where the time to the first token went: in the queue, in steps that compute prompts, in others, in the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from gpusim.core.arrays import BoolArray, FloatArray
from gpusim.results.explained import grouped, parts_of
from gpusim.results.request_log import RequestLog
from gpusim.results.step_log import StepLog
from gpusim.results.time_spent import TimeSpent
from gpusim.results.tokens import TokenTimes
from gpusim.runtime.attribution import CATEGORIES

PARTS: Final = ("queue", *CATEGORIES, "paused", "api")
"""Before the first step with a part of it; by category, of steps from there on that computed prompts; the others, and the time
between steps; to the engine and back, jitter included."""


def explain_ttft(
    requests: RequestLog, steps: Mapping[str, StepLog], keep: BoolArray, times: TokenTimes
) -> dict[str, Any]:
    """Say where the time to the first token went, of the requests in *keep*, of the median and of the slow ones.

    Returns:
        By `GROUPS`: `count`, `mean_s`, `seconds` and `share` by `PARTS`, which add up to it. Empty without requests.
    """
    rows = np.flatnonzero(keep & (times.num_tokens > 0))
    if not len(rows):
        return {}
    ticks = times.first_ps[rows] - requests.rows["arrival_ps"][rows]
    table = _table(requests, steps, rows, times)
    masks = grouped(ticks, np.ones(len(rows), np.int64))
    return {
        name: parts_of(dict(zip(PARTS, table[mask].sum(axis=0), strict=True)), int(mask.sum()))
        for name, mask in masks.items()
    }


def _table(
    requests: RequestLog, steps: Mapping[str, StepLog], rows: np.ndarray[Any, Any], times: TokenTimes
) -> FloatArray:
    """Return ticks by part (rows, parts)."""
    asked, segments = requests.rows[rows], requests.segments
    is_first = np.diff(segments["request"], prepend=-1) != 0
    first_step = np.zeros(len(requests), np.int64)
    first_step[segments["request"][is_first]] = segments["first_step"][is_first]
    table = np.zeros((len(rows), len(PARTS)))
    table[:, 0] = asked["scheduled_ps"] - asked["arrival_ps"]
    for code, name in enumerate(requests.engines):
        here = np.flatnonzero(asked["engine"] == code)
        if not len(here):
            continue
        spent = TimeSpent(steps[name])
        first = np.searchsorted(spent.starts, asked["scheduled_ps"][here])
        last = first_step[rows[here]]
        prefilling = spent.between(first, last, spent.runs["num_prefill_tokens"] > 0)
        table[here, 1:-2] = prefilling
        table[here, -2] = spent.ends[last] - asked["scheduled_ps"][here] - prefilling.sum(axis=1)
        table[here, -1] = times.first_ps[rows[here]] - spent.ends[last]
    return table
