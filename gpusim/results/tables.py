"""The logs as polars tables: what the Parquet files hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from gpusim.core.arrays import BoolArray, IntArray
from gpusim.hardware.bandwidth_use import BandwidthUse
from gpusim.results.columns import Records, seconds_array
from gpusim.results.metrics import measured_requests
from gpusim.results.request_log import STATUSES, RequestLog
from gpusim.results.step_log import COUNTS, StepLog
from gpusim.results.tokens import TokenTimes, token_times
from gpusim.runtime.attribution import CATEGORIES
from gpusim.spec.scenario import MeasureSpec

if TYPE_CHECKING:
    import polars as pl


PIECE: Final = 1 << 18
"""Rows made at a time, about: a few MB of each table, however long the run."""

Pieces: TypeAlias = "Iterator[pl.DataFrame]"
"""A table in pieces of about `PIECE` rows, one at least; each is made when it is asked for."""


def requests_table(
    requests: RequestLog,
    steps: Mapping[str, StepLog],
    window: MeasureSpec | None = None,
    *,
    times: TokenTimes | None = None,
) -> pl.DataFrame:
    """Return one row per request, in order of the log; null where something never happened."""
    return _whole(_requests(requests, times or token_times(requests, steps), window or MeasureSpec()))


def steps_table(steps: Mapping[str, StepLog]) -> pl.DataFrame:
    """Return one row per step, engine after engine."""
    return _whole(_steps(steps))


def runs_table(steps: Mapping[str, StepLog]) -> pl.DataFrame:
    """Return one row per run of steps, with where its time went, engine after engine."""
    return _whole(_runs(steps))


def segments_table(requests: RequestLog) -> pl.DataFrame:
    """Return one row per segment: steps, last included, in each of which a request got one token."""
    return _whole(_segments(requests))


def use_table(use: BandwidthUse) -> pl.DataFrame:
    """Return one row per bin of each kind of memory or link: which part of its peak bandwidth was in use."""
    import polars as pl  # noqa: PLC0415 - slow to import

    bins = len(use.edges_ps) - 1
    return pl.DataFrame(
        {
            "kind": pl.Series(np.repeat(list(use.parts), bins).tolist(), dtype=pl.String),
            "start_ps": np.tile(use.edges_ps[:-1], len(use.parts)),
            "end_ps": np.tile(use.edges_ps[1:], len(use.parts)),
            "use": np.concatenate([np.zeros(0), *use.parts.values()]),
        }
    )


def all_tables(
    requests: RequestLog,
    steps: Mapping[str, StepLog],
    window: MeasureSpec | None = None,
    *,
    times: TokenTimes | None = None,
    use: BandwidthUse | None = None,
) -> dict[str, Pieces]:
    """Return every table, in pieces, by the stem of its file; *times* are those of `token_times`, if known."""
    return {
        "requests": _requests(requests, times or token_times(requests, steps), window or MeasureSpec()),
        "segments": _segments(requests),
        "steps": _steps(steps),
        "runs": _runs(steps),
        "use": iter([use_table(use or BandwidthUse())]),
    }


def _whole(pieces: Pieces) -> pl.DataFrame:
    import polars as pl  # noqa: PLC0415 - slow to import

    return pl.concat(list(pieces))


def _slices(num_rows: int) -> list[slice]:
    """Cut *num_rows* into pieces, one at least."""
    return [slice(at, min(at + PIECE, num_rows)) for at in range(0, max(num_rows, 1), PIECE)]


def _requests(requests: RequestLog, times: TokenTimes, window: MeasureSpec) -> Pieces:
    measured = measured_requests(requests, window)
    finished = requests.has_status("finished")
    for where in _slices(len(requests)):
        part = TokenTimes(times.first_ps[where], times.last_ps[where], times.num_tokens[where])
        yield _requests_piece(requests, requests.rows[where], part, measured[where], finished[where])


def _requests_piece(
    requests: RequestLog, rows: Records, times: TokenTimes, measured: BoolArray, finished: BoolArray
) -> pl.DataFrame:
    import polars as pl  # noqa: PLC0415 - slow to import

    arrival, scheduled = rows["arrival_ps"], rows["scheduled_ps"]
    started, came = scheduled >= 0, times.num_tokens > 0
    several = finished & (times.num_tokens > 1)
    tpot_s = seconds_array(times.last_ps - times.first_ps) / np.maximum(times.num_tokens - 1, 1)
    return pl.DataFrame(
        {
            "request": rows["index"],
            "engine": _named(requests.engines, rows["engine"]),
            "status": _named(STATUSES, rows["status"]),
            "reason": _named(requests.reasons, rows["reason"]),
            "measured": measured,
            "prompt_tokens": rows["prompt_tokens"],
            "output_tokens": rows["output_tokens"],
            "produced_tokens": times.num_tokens,
            "num_preemptions": rows["num_preemptions"],
            "cached_tokens": rows["cached_tokens"],
            "arrival_ps": arrival,
            "first_token_ps": _known(times.first_ps, came),
            "last_token_ps": _known(times.last_ps, came),
            "arrival_s": seconds_array(arrival),
            "scheduled_s": _known(seconds_array(scheduled), started),
            "first_token_s": _known(seconds_array(times.first_ps), came),
            "last_token_s": _known(seconds_array(times.last_ps), came),
            "queue_s": _known(seconds_array(scheduled - arrival), started),
            "preempted_s": seconds_array(rows["preempted_ps"]),
            "ttft_s": _known(seconds_array(times.first_ps - arrival), came),
            "tpot_s": _known(tpot_s, several),
            "e2e_s": _known(seconds_array(times.last_ps - arrival), finished),
        }
    )


def _segments(requests: RequestLog) -> Pieces:
    import polars as pl  # noqa: PLC0415 - slow to import

    for where in _slices(len(requests.segments)):
        segments = requests.segments[where]
        yield pl.DataFrame(
            {
                "request": requests.rows["index"][segments["request"]],
                "engine": _named(requests.engines, segments["engine"]),
                "first_step": segments["first_step"],
                "last_step": segments["last_step"],
            }
        )


def _steps(steps: Mapping[str, StepLog]) -> Pieces:
    for log in steps.values():
        # Cut between runs: a piece is whole runs.
        first_steps = np.append(log.runs["first_step"], len(log))
        cuts = np.searchsorted(first_steps, np.arange(PIECE, len(log), PIECE))
        inner = np.unique(cuts[cuts < len(log.runs)])
        for low, high in pairwise([0, *inner.tolist(), len(log.runs)]):
            yield _steps_piece(log, low, first_steps[low : high + 1])


def _steps_piece(log: StepLog, first_run: int, first_steps: IntArray) -> pl.DataFrame:
    """Return the steps from ``first_steps[0]`` to ``first_steps[-1]``: those of whole runs, *first_run* and on."""
    import polars as pl  # noqa: PLC0415 - slow to import

    low, high = first_steps[[0, -1]].tolist()
    runs = log.runs[first_run : first_run + len(first_steps) - 1]
    ends = log.ends[low:high]
    starts = np.empty(high - low, np.int64)
    starts[1:] = ends[:-1]
    starts[first_steps[:-1] - low] = runs["start_ps"]
    run = np.repeat(np.arange(len(runs), dtype=np.int32), np.diff(first_steps))
    return pl.DataFrame(
        {
            "engine": _named((log.engine,), np.zeros(high - low, np.int8)),
            "step": np.arange(low, high),
            "run": run + np.int32(first_run),
            "start_ps": starts,
            "end_ps": ends,
            "end_s": seconds_array(ends),
            **{name: runs[name][run] for name in COUNTS},
        }
    )


def _runs(steps: Mapping[str, StepLog]) -> Pieces:
    for log in steps.values():
        lengths, ends = log.run_lengths, log.run_ends
        for where in _slices(len(log.runs)):
            yield _runs_piece(log, where, lengths[where], ends[where])


def _runs_piece(log: StepLog, where: slice, lengths: IntArray, ends: IntArray) -> pl.DataFrame:
    import polars as pl  # noqa: PLC0415 - slow to import

    runs = log.runs[where]
    seconds_by = {f"{name}_s": seconds_array(runs["attribution_ps"][:, i]) for i, name in enumerate(CATEGORIES)}
    return pl.DataFrame(
        {
            "engine": _named((log.engine,), np.zeros(len(runs), np.int8)),
            "run": np.arange(where.start, where.stop, dtype=np.int32),
            "first_step": runs["first_step"],
            "num_steps": lengths,
            "start_ps": runs["start_ps"],
            "end_ps": ends,
            "kv_blocks": runs["kv_blocks"],
            **seconds_by,
        }
    )


def _named(names: tuple[str, ...] | list[str], codes: IntArray) -> pl.Series:
    """Return the text of each code as a string column, null for -1, looked up without a Python loop."""
    import polars as pl  # noqa: PLC0415 - slow to import

    positions = pl.Series(codes.astype(np.int32))
    return pl.Series(list(names), dtype=pl.String).gather(positions.replace(-1, None))


def _known(values: Any, known: Any) -> pl.Series:
    """Return *values* with null where not *known*."""
    import polars as pl  # noqa: PLC0415 - slow to import

    return pl.Series(values).set(pl.Series(~known), None)
