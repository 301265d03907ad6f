"""The table of a sweep: one line a point, or the ideal and the calibrated figures of a point side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from gpusim.model.layout import Layout
from gpusim.report.metric_titles import metric_title, metric_unit
from gpusim.report.terminal import TableColumn, look_up, sweep_table
from gpusim.results.change import UNITS
from gpusim.results.observations import Observations
from gpusim.results.summary import plain
from gpusim.runtime.bounds import streaming_step_s
from gpusim.spec.sweep import Point
from gpusim.sweeps import SweepResult, SweepRow

if TYPE_CHECKING:
    from rich.console import Console

SIDE_BY_SIDE = "efficiency"
"""The swept key whose values become columns instead of lines."""
_USUAL: Final = (
    TableColumn("ttft_s.mean", "mean TTFT", "ms"),
    TableColumn("ttft_s.p50", "p50 TTFT", "ms"),
    TableColumn("ttft_s.p99", "p99 TTFT", "ms"),
    TableColumn("itl_s.mean", "mean ITL", "ms"),
    TableColumn("itl_s.p50", "p50 ITL", "ms"),
    TableColumn("itl_s.p99", "p99 ITL", "ms"),
    TableColumn("throughput.output_tokens_per_s", "output", "tokens/s"),
    TableColumn("attainment", "within SLO", "%"),
    TableColumn("goodput_per_s", "goodput", "/s"),
    TableColumn("speed_up", "speed-up"),
)
"""Columns where no metric is asked for; those without a value are left out."""
_MEDIANS: Final = {"ttft_s.p50", "itl_s.p50"}
"""Make room for what is known where there are targets."""
_NUMBERS: Final = re.compile(r"(?<![\w.-])\d+(?:[.,]? ?\d+)*(?:, …)?")
"""One number or several, not those in names."""


def sweep_rows(result: SweepResult, metrics: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return one mapping a point: its keys, its latencies in seconds, what was served, and what they compare with.

    Args:
        result: Of the sweep.
        metrics: Names of `UNITS`, to be added under the key ``metrics``.
    """
    rows = [_row(row, metrics) for row in result]
    for entry, row in zip(result, rows, strict=True):
        row["published_itl_s"] = _published(result, entry)
        base = _base(result, entry, rows)
        row["speed_up"] = None if base is None else _ratio(base["itl_s"]["mean"], row["itl_s"]["mean"])
        row["crude_speed_up"] = None if base is None else _ratio(base["crude_itl_s"], row["crude_itl_s"])
    return rows


def _ratio(base_s: float | None, own_s: float | None) -> float | None:
    """Return how many times shorter *own_s* is; None where either is unknown, as ITL is of outputs of one token."""
    return base_s / own_s if base_s and own_s else None


def print_sweep(
    result: SweepResult, console: Console, *, metrics: Sequence[str] | None = None, title: str = ""
) -> None:
    """Print the table of *result*, with *metrics* (names of `UNITS`) instead of the usual columns, and its warnings."""
    rows = sweep_rows(result, metrics)
    notes = _notes(result, rows)
    common = set.intersection(*(row["notes"] for row in rows))
    keys = list(result.keys)
    if metrics is not None:
        rows = [{**row, **{_metric_key(name): value for name, value in row["metrics"].items()}} for row in rows]
        shown = [_metric_column(name, rows) for name in dict.fromkeys(metrics)]
    elif len({row.get(SIDE_BY_SIDE) for row in rows}) > 1:
        keys.remove(SIDE_BY_SIDE)
        rows, beside = _side_by_side(rows, keys)
        shown = _present(beside, rows)
    else:
        has_targets = any(row["attainment"] is not None for row in rows)
        shown = [column for column in _present(_USUAL, rows) if not (has_targets and column.key in _MEDIANS)]
    others = (
        TableColumn("not_served", "requests rejected"),
        *([TableColumn("preemptions", "preemptions")] if any(row["preemptions"] for row in rows) else []),
        TableColumn("crude_itl_s", "crude estimate", "ms"),
        TableColumn("crude_speed_up", "speed-up crude"),
        TableColumn("published_itl_s", "published", "ms"),
        TableColumn("see", "see"),
    )
    for row in rows:
        row["see"] = ", ".join(map(str, sorted(row["notes"] - common))) or None
    columns = [*(TableColumn(key, key, is_label=True) for key in keys), *shown, *_present(others, rows)]
    sweep_table(rows, columns, console, title=title or None)
    for note in notes:
        console.print(f"warning {note}", style="yellow", markup=False, highlight=False)


def _present(columns: Sequence[TableColumn], rows: Sequence[dict[str, Any]]) -> list[TableColumn]:
    return [column for column in columns if any(look_up(row, column.key) is not None for row in rows)]


def _metric_key(name: str) -> str:
    """Return the key of a metric in a row, which also has what is always known of a point, some of it of the same name."""
    return f"metric {name}"


def _metric_column(name: str, rows: Sequence[dict[str, Any]]) -> TableColumn:
    key = _metric_key(name)
    return TableColumn(key, metric_title(name), metric_unit(UNITS[name], (row[key] for row in rows)))


def _notes(result: SweepResult, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Give *rows* the numbers of their warnings; return these, those that differ in figures only as that of the first point."""
    found: dict[str, dict[str, Point]] = {}
    for entry, row in zip(result, rows, strict=True):
        kinds = {_NUMBERS.sub("#", text): text for text in row["warnings"]}
        for kind, text in kinds.items():
            found.setdefault(kind, {}).setdefault(text, entry.point)
        row["notes"] = {1 + list(found).index(kind) for kind in kinds}
    return [_note(number, texts) for number, texts in enumerate(found.values(), 1)]


def _note(number: int, texts: Mapping[str, Point]) -> str:
    (text, point), *others = texts.items()
    return f"{number}: {text}" + (f" (figures of {point})" if others else "")


def _row(row: SweepRow, metrics: Sequence[str] | None) -> dict[str, Any]:
    summary = row.result.summary()
    requests = summary["requests"]
    taken = ("ttft_s", "itl_s", "tpot_s", "e2e_s", "queue_s", "throughput", "goodput_per_s")
    found = {
        **row.point.labels,
        **{key: summary[key] for key in taken},
        "attainment": summary["slo"]["attainment"],
        **{key: requests[key] for key in ("finished", "rejected", "preemptions")},
        "not_served": f"{requests['rejected']} of {requests['submitted']}" if requests["rejected"] else None,
        "crude_itl_s": _crude(row),
        "warnings": summary["warnings"],
        "folder": None if row.folder is None else str(row.folder),
    }
    if metrics is not None:
        values = Observations.of(row.result).values()
        found["metrics"] = plain({name: values.get(name) for name in metrics})
    return found


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
        line["notes"] = line["notes"] | row["notes"]
        line[f"{row.get(SIDE_BY_SIDE)}_itl"] = row["itl_s"]["mean"]
        line[f"{row.get(SIDE_BY_SIDE)}_speed_up"] = row["speed_up"]
    columns = [TableColumn(f"{variant}_itl", f"ITL {variant}", "ms") for variant in variants]
    columns += [TableColumn(f"{variant}_speed_up", f"speed-up {variant}") for variant in variants]
    return list(merged.values()), columns
