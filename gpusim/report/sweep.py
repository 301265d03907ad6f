"""The table of a sweep: one line a point, or the ideal and the calibrated figures of a point side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpusim.model.layout import Layout
from gpusim.report.terminal import TableColumn, sweep_table
from gpusim.runtime.bounds import streaming_step_s
from gpusim.sweeps import SweepResult, SweepRow

if TYPE_CHECKING:
    from rich.console import Console

SIDE_BY_SIDE = "efficiency"
"""The swept key whose values become columns instead of lines."""


def sweep_rows(result: SweepResult) -> list[dict[str, Any]]:
    """Return one mapping a point: its keys, its latencies in seconds, and what they compare with."""
    rows = [_row(row) for row in result]
    for entry, row in zip(result, rows, strict=True):
        row["published_itl_s"] = _published(result, entry)
        base = _base(result, entry, rows)
        row["speed_up"] = None if base is None else base["itl_s"]["mean"] / row["itl_s"]["mean"]
        crude = base and base["crude_itl_s"]
        row["crude_speed_up"] = crude / row["crude_itl_s"] if crude and row["crude_itl_s"] else None
    return rows


def print_sweep(result: SweepResult, console: Console, *, title: str = "") -> None:
    """Print the table of *result*."""
    rows = sweep_rows(result)
    keys = [key for key in result.keys if key != SIDE_BY_SIDE or len({row.get(key) for row in rows}) == 1]
    if len(keys) < len(result.keys):
        rows, shown = _side_by_side(rows, keys)
    else:
        shown = [
            TableColumn("ttft_s.mean", "TTFT mean", "ms"),
            TableColumn("ttft_s.p50", "TTFT p50", "ms"),
            TableColumn("ttft_s.p99", "TTFT p99", "ms"),
            TableColumn("itl_s.mean", "ITL mean", "ms"),
            TableColumn("itl_s.p50", "ITL p50", "ms"),
            TableColumn("itl_s.p99", "ITL p99", "ms"),
            TableColumn("speed_up", "speed-up"),
        ]
    if any(row["rejected"] for row in rows):
        shown.append(TableColumn("not_served", "requests rejected"))
    shown += [
        TableColumn("crude_itl_s", "crude estimate", "ms"),
        TableColumn("crude_speed_up", "speed-up crude"),
        TableColumn("published_itl_s", "published", "ms"),
    ]
    present = [column for column in shown if any(_value(row, column.key) is not None for row in rows)]
    columns = [*(TableColumn(key, key, is_label=True) for key in keys), *present]
    sweep_table(rows, columns, console, title=title or None)


def _value(row: dict[str, Any], key: str) -> Any:
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _row(row: SweepRow) -> dict[str, Any]:
    summary = row.result.summary()
    latencies = {key: summary[key] for key in ("ttft_s", "itl_s", "tpot_s", "e2e_s")}
    counts = {"finished": summary["requests"]["finished"], "rejected": summary["requests"]["rejected"]}
    not_served = f"{counts['rejected']} of {summary['requests']['submitted']}" if counts["rejected"] else None
    return {**row.point.labels, **latencies, **counts, "not_served": not_served, "crude_itl_s": _crude(row)}


def _crude(row: SweepRow) -> float | None:
    """Return the back-of-envelope time of a decode step, all bytes at the peak at which KV is read; for one batch at once."""
    workload = row.plan.workload
    if (
        workload is None
        or workload.arrivals is None
        or workload.arrivals.kind != "at_once"
        or len(row.plan.engines) > 1
    ):
        return None
    engine = row.plan.engines[0]
    requests = row.result.requests
    bandwidth = row.result.summary()["engines"][engine.name]["kv_bandwidth_bytes_per_s"]
    return streaming_step_s(
        engine.model,
        engine.dtype.weights,
        engine.dtype.kv,
        context_tokens=float((requests["prompt_tokens"] + requests["produced_tokens"] / 2).sum()),
        weight_bandwidth=bandwidth,
        kv_bandwidth=bandwidth,
        layout=Layout.of(engine.serving),
    )


def _published(result: SweepResult, row: SweepRow) -> float | None:
    for figure in result.published:
        if all(row.point.labels.get(key) == value for key, value in figure.when.items()):
            return figure.itl
    return None


def _base(result: SweepResult, row: SweepRow, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the point that *row* is compared with: how many times faster it is, by mean ITL, is its speed-up."""
    wanted = {**row.point.labels, **result.relative_to}
    found = (other for other in rows if all(other.get(key) == value for key, value in wanted.items()))
    return next(found, None) if result.relative_to else None


def _side_by_side(rows: list[dict[str, Any]], keys: list[str]) -> tuple[list[dict[str, Any]], list[TableColumn]]:
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    variants = list(dict.fromkeys(str(row.get(SIDE_BY_SIDE)) for row in rows))
    for row in rows:
        line = merged.setdefault(tuple(row.get(key) for key in keys), dict(row))
        line[f"{row.get(SIDE_BY_SIDE)}_itl"] = row["itl_s"]["mean"]
        line[f"{row.get(SIDE_BY_SIDE)}_speed_up"] = row["speed_up"]
    columns = [TableColumn(f"{variant}_itl", f"ITL {variant}", "ms") for variant in variants]
    columns += [TableColumn(f"{variant}_speed_up", f"speed-up {variant}") for variant in variants]
    return list(merged.values()), columns
