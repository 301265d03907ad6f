"""A run over time, in few points: load, batch, KV blocks, bandwidth in use and where time went, with exact means of each bin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.results.columns import seconds_array
from gpusim.results.step_log import StepLog
from gpusim.results.summary import RunRecord
from gpusim.results.tokens import TokenTimes, token_times
from gpusim.runtime.attribution import CATEGORIES

Interval: TypeAlias = tuple[IntArray, IntArray, FloatArray]
"""Starts and ends in ticks, and the level in between, each (intervals,)."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Of one quantity, its mean over time and its maximum in each bin (bins,)."""

    mean: FloatArray
    most: FloatArray


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run from tick 0 to its last event, in bins of equal length."""

    edges_s: FloatArray
    """(bins + 1,)"""
    levels: Mapping[str, Levels]
    """`running` and `waiting` requests, `num_decodes` and `num_prefill_tokens` of the step under way, `kv_blocks` in use."""
    shares: Mapping[str, FloatArray]
    """(bins,) Part of the time that went to each of `CATEGORIES`, in the mean of all engines; engines idle for the rest."""
    use: Mapping[str, FloatArray]
    """(bins,) Part of its peak bandwidth that each kind of memory and link used; see `BandwidthUse`."""


def timeline(record: RunRecord, num_bins: int = 160) -> Timeline | None:
    """Return *record* over time; None if nothing took any.

    Engines add up. A run of steps takes up its time and its blocks from its start to its end: between runs an engine
    idles. Its attribution is spread evenly over it.
    """
    logs = [log for log in record.steps.values() if len(log)]
    times = token_times(record.requests, record.steps)
    ends = [int(log.ends[-1]) for log in logs] + [int(times.last_ps.max(initial=0)), int(record.use.edges_ps[-1])]
    end = max(ends)
    if end <= 0:
        return None
    edges = np.linspace(0, end, num_bins + 1)
    intervals = _requests(record, times, end)
    for name in ("num_decodes", "num_prefill_tokens", "kv_blocks"):
        intervals[name] = [_of_runs(log, log.runs[name].astype(np.float64)) for log in logs]
    levels = {name: _binned(parts, edges) for name, parts in intervals.items()}
    use = {kind: _mean(record.use.edges_ps, part, edges) for kind, part in record.use.parts.items()}
    return Timeline(seconds_array(np.rint(edges).astype(np.int64)), levels, _shares(logs, edges), use)


def _requests(record: RunRecord, times: TokenTimes, end: int) -> dict[str, list[Interval]]:
    """Return when requests waited for their first step, and when they were served, preemption included."""
    accepted = ~record.requests.has_status("rejected")
    rows = record.requests.rows[accepted]
    over = np.where(record.requests.has_status("finished"), times.last_ps, end)[accepted]
    scheduled = np.where(rows["scheduled_ps"] >= 0, rows["scheduled_ps"], over)
    ones = np.ones(len(rows))
    return {
        "running": [(scheduled, np.maximum(over, scheduled), ones)],
        "waiting": [(rows["arrival_ps"], np.maximum(scheduled, rows["arrival_ps"]), ones)],
    }


def _mean(at: IntArray, level: FloatArray, edges: FloatArray) -> FloatArray:
    """Return the mean in each bin of a level that holds between each two of *at*, and is 0 behind the last."""
    area = np.concatenate(([0.0], np.cumsum(level * np.diff(at))))
    mean: FloatArray = np.diff(np.interp(edges, at, area)) / np.diff(edges)
    return mean


def _of_runs(log: StepLog, level: FloatArray) -> Interval:
    return log.runs["start_ps"], log.run_ends, level


def _shares(logs: Iterable[StepLog], edges: FloatArray) -> dict[str, FloatArray]:
    logs = list(logs)
    found = {}
    for column, name in enumerate(CATEGORIES):
        parts = [
            _of_runs(log, log.runs["attribution_ps"][:, column] / np.maximum(log.run_ends - log.runs["start_ps"], 1))
            for log in logs
        ]
        found[name] = _binned(parts, edges).mean / max(len(logs), 1)
    return found


def _binned(intervals: Iterable[Interval], edges: FloatArray) -> Levels:
    """Add up levels that hold in intervals, and return the mean and the maximum of the sum in each bin."""
    ticks, changes = [np.zeros(1)], [np.zeros(1)]
    for starts, ends, level in intervals:
        ticks += [starts.astype(np.float64), ends.astype(np.float64)]
        changes += [level, -level]
    at, of = np.unique(np.concatenate(ticks), return_inverse=True)
    levels = np.cumsum(np.bincount(of, weights=np.concatenate(changes)))
    area = np.concatenate(([0.0], np.cumsum(levels[:-1] * np.diff(at))))
    # Behind the last change everything is over.
    area_at = np.interp(edges, at, area)
    first = np.searchsorted(at, edges[:-1], side="right") - 1
    behind = np.searchsorted(at, edges[1:], side="left")
    bounds = np.column_stack((first, behind)).ravel()
    most = np.maximum.reduceat(np.append(levels, 0.0), bounds)[::2]
    return Levels(np.diff(area_at) / np.diff(edges), np.maximum(most, 0.0))
