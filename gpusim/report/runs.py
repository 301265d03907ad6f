"""Scores of `gpusim validate serving`: tables for the terminal, and the same as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from gpusim.report.terminal import TableColumn, sweep_table
from gpusim.runs.gaps import gap_summary
from gpusim.runs.layout import METRICS
from gpusim.runs.predictions import Prediction
from gpusim.runs.scores import beside_peers, mean_errors, mean_gaps, reasons, run_gaps, run_rows
from gpusim.spelling import counted

if TYPE_CHECKING:
    from rich.console import Console

TITLES: Final = {name: name.removesuffix("_s").replace("_", " ") for name in METRICS}
_METRICS: Final = [TableColumn(name, title) for name, title in TITLES.items()]


def runs_summary(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Return errors (fractions) of each run, in the mean, beside the peers', and why runs have no prediction."""
    return {
        "experiments": len(predictions),
        "runs": run_rows(predictions),
        "mean": mean_errors(predictions),
        "peers": beside_peers(predictions),
        "token_gaps": {**_gaps_part(predictions), "with_jitter": _gaps_part(predictions, jitter=True)},
        "without_prediction": reasons(predictions),
    }


def _gaps_part(predictions: Sequence[Prediction], *, jitter: bool = False) -> dict[str, Any]:
    runs = gap_summary(run_gaps(predictions, jitter=jitter))
    return {"runs": runs, "mean": mean_gaps(predictions, jitter=jitter)}


def print_runs(predictions: Sequence[Prediction], console: Console) -> None:
    """Print the errors of each run, their means beside the peers', and why runs have no prediction."""
    rows = run_rows(predictions)
    console.print(f"{len(rows)} of {counted(len(predictions), 'experiment')} simulated", highlight=False)
    if rows:
        title = "Signed errors in % (predicted / measured - 1); in brackets: not scored"
        columns = [TableColumn("experiment", "experiment"), TableColumn("mean_decodes", "decodes"), *_METRICS]
        sweep_table([run_percentages(row) for row in rows], columns, console, title=title)
    means = mean_errors(predictions)
    if means["runs"]:
        columns = [TableColumn("who", "who"), TableColumn("runs", "runs"), *_METRICS]
        found = [percentages(row, "") for row in (means, *beside_peers(predictions))]
        sweep_table(found, columns, console, title="Mean size of the error in %, scored runs")
    else:
        console.print("nothing was measured, so there is nothing to hold the predictions against", highlight=False)
    for title, gaps in gap_tables(predictions).items():
        columns = [TableColumn(name, name) for name in gaps[0]]
        sweep_table(gaps, columns, console, title=title)
    without = reasons(predictions)
    if without:
        columns = [TableColumn("experiment", "experiment"), TableColumn("reason", "reason")]
        sweep_table(without, columns, console, title="Without a prediction")


def gap_tables(predictions: Sequence[Prediction]) -> dict[str, list[dict[str, Any]]]:
    """Return by title the tables of errors of gaps between tokens, without jitter and with it; none that is empty."""
    title = "Signed errors in % of gaps between tokens, by percentile (p99.8: rare stalls, not simulated)"
    tables = {
        title: _gap_rows(predictions, jitter=False),
        f"{title}, with the profile's jitter": _gap_rows(predictions, jitter=True),
    }
    return {title: rows for title, rows in tables.items() if rows}


def _gap_rows(predictions: Sequence[Prediction], *, jitter: bool) -> list[dict[str, Any]]:
    """Return signed errors in per cent, a row for each run and one with the mean size."""
    found = run_gaps(predictions, jitter=jitter)
    scored = {p.experiment.name: p.experiment.is_scored for p in predictions}
    names = sorted({gap.percentile for gaps in found.values() for gap in gaps}, key=lambda name: float(name[1:]))
    rows = [
        {"experiment": run if scored[run] else f"({run})"} | {gap.percentile: f"{100 * gap.error:+.1f}" for gap in gaps}
        for run, gaps in found.items()
    ]
    means = {name: f"{100 * value:.1f}" for name, value in mean_gaps(predictions, jitter=jitter).items()}
    rows += [{"experiment": "mean size, scored runs"} | means] if means else []
    return [{name: row.get(name) for name in ("experiment", *names)} for row in rows]


def run_percentages(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return *row* of `run_rows` with signed errors in per cent; the name in brackets if it is not scored."""
    name = row["experiment"] if row["scored"] else f"({row['experiment']})"
    return percentages(row, "+") | {"experiment": name, "mean_decodes": f"{row['mean_decodes']:.1f}"}


def percentages(row: Mapping[str, Any], sign: str) -> dict[str, Any]:
    """Return *row* with its fractions in per cent, signs written as *sign* says."""
    found = dict(row)
    for name in METRICS:
        value = row.get(name)
        found[name] = None if value is None else f"{100 * value:{sign}.1f}"
    return found
