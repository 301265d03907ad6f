"""The logs as polars tables: what the Parquet files hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gpusim.core.clock import IntArray
from gpusim.results.columns import seconds_array
from gpusim.results.metrics import measured_requests
from gpusim.results.request_log import STATUSES, RequestLog
from gpusim.results.step_log import StepLog
from gpusim.results.tokens import token_times
from gpusim.runtime.attribution import CATEGORIES
from gpusim.spec.scenario import MeasureSpec

if TYPE_CHECKING:
    import polars as pl


def requests_table(
    requests: RequestLog, steps: Mapping[str, StepLog], window: MeasureSpec | None = None
) -> pl.DataFrame:
    """Return one row per request, in order of the log; null where something never happened."""
    import polars as pl  # noqa: PLC0415 - slow to import

    rows = requests.rows
    times = token_times(requests, steps)
    arrival, scheduled = rows["arrival_ps"], rows["scheduled_ps"]
    finished = requests.has_status("finished")
    started, came = scheduled >= 0, times.num_tokens > 0
    several = finished & (times.num_tokens > 1)
    tpot_s = seconds_array(times.last_ps - times.first_ps) / np.maximum(times.num_tokens - 1, 1)
    return pl.DataFrame(
        {
            "request": rows["index"],
            "engine": _named(requests.engines, rows["engine"]),
            "status": _named(STATUSES, rows["status"]),
            "reason": _named(requests.reasons, rows["reason"]),
            "measured": measured_requests(requests, window or MeasureSpec()),
            "prompt_tokens": rows["prompt_tokens"],
            "output_tokens": rows["output_tokens"],
            "produced_tokens": times.num_tokens,
            "num_preemptions": rows["num_preemptions"],
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


def steps_table(steps: Mapping[str, StepLog]) -> pl.DataFrame:
    """Return one row per step, engine after engine."""
    import polars as pl  # noqa: PLC0415 - slow to import

    tables = []
    for engine, log in steps.items():
        run = np.repeat(np.arange(len(log.runs), dtype=np.int32), log.run_lengths)
        tables.append(
            pl.DataFrame(
                {
                    "engine": _named((engine,), np.zeros(len(log), np.int8)),
                    "step": np.arange(len(log)),
                    "run": run,
                    "start_ps": log.starts,
                    "end_ps": log.ends,
                    "end_s": seconds_array(log.ends),
                    "num_decodes": log.runs["num_decodes"][run],
                    "num_prefill_tokens": log.runs["num_prefill_tokens"][run],
                    "num_tokens": log.runs["num_tokens"][run],
                }
            )
        )
    return pl.concat(tables)


def runs_table(steps: Mapping[str, StepLog]) -> pl.DataFrame:
    """Return one row per run of steps, with where its time went, engine after engine."""
    import polars as pl  # noqa: PLC0415 - slow to import

    tables = []
    for engine, log in steps.items():
        seconds_by = {f"{name}_s": seconds_array(log.runs["attribution_ps"][:, i]) for i, name in enumerate(CATEGORIES)}
        tables.append(
            pl.DataFrame(
                {
                    "engine": _named((engine,), np.zeros(len(log.runs), np.int8)),
                    "run": np.arange(len(log.runs), dtype=np.int32),
                    "first_step": log.runs["first_step"],
                    "num_steps": log.run_lengths,
                    "start_ps": log.runs["start_ps"],
                    "end_ps": log.run_ends,
                    **seconds_by,
                }
            )
        )
    return pl.concat(tables)


def segments_table(requests: RequestLog) -> pl.DataFrame:
    """Return one row per segment: steps, last included, in each of which a request got one token."""
    import polars as pl  # noqa: PLC0415 - slow to import

    segments = requests.segments
    return pl.DataFrame(
        {
            "request": requests.rows["index"][segments["request"]],
            "engine": _named(requests.engines, segments["engine"]),
            "first_step": segments["first_step"],
            "last_step": segments["last_step"],
        }
    )


def all_tables(
    requests: RequestLog, steps: Mapping[str, StepLog], window: MeasureSpec | None = None
) -> dict[str, pl.DataFrame]:
    """Return every table by the stem of its file."""
    return {
        "requests": requests_table(requests, steps, window),
        "segments": segments_table(requests),
        "steps": steps_table(steps),
        "runs": runs_table(steps),
    }


def _named(names: tuple[str, ...] | list[str], codes: IntArray) -> pl.Series:
    """Return the text of each code as a string column, null for -1, looked up without a Python loop."""
    import polars as pl  # noqa: PLC0415 - slow to import

    positions = pl.Series(codes.astype(np.int32))
    return pl.Series(list(names), dtype=pl.String).gather(positions.replace(-1, None))


def _known(values: Any, known: Any) -> pl.Series:
    """Return *values* with null where not *known*."""
    import polars as pl  # noqa: PLC0415 - slow to import

    return pl.Series(values).set(pl.Series(~known), None)
