"""Scores of `gpusim validate silicon`: tables for the terminal, and the same as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from gpusim.report.terminal import TableColumn, sweep_table
from gpusim.silicon.scores import reasons, scores
from gpusim.spelling import counted

if TYPE_CHECKING:
    from rich.console import Console

_BY: Final = (("kind", "gpu", "engine"), ("kind", "gpu", "region"))
"""One table each."""
_FIGURES: Final = {
    "core_rows": "core rows",
    "core_mape": "core MAPE %",
    "core_p90": "core p90 %",
    "core_bias": "core bias %",
    "all_rows": "all rows",
    "all_mape": "all MAPE %",
    "all_p90": "all p90 %",
    "all_bias": "all bias %",
}
TITLES: Final = {"kind": "kind", "gpu": "GPU", "engine": "engine", "region": "region"} | _FIGURES


def silicon_summary(rows: pl.DataFrame) -> dict[str, Any]:
    """Return number of rows, scores (fractions) in several groupings, and why rows have no prediction."""
    summary: dict[str, Any] = {"rows": len(rows), "predicted": int(rows["predicted_us"].is_not_null().sum())}
    for by in (("kind", "gpu"), *_BY):
        summary["by_" + "_".join(by)] = scores(rows, *by).to_dicts()
    return {**summary, "without_prediction": reasons(rows).to_dicts()}


def print_silicon(rows: pl.DataFrame, console: Console) -> None:
    """Print the scores by engine and by region, and why rows have no prediction."""
    predicted = rows["predicted_us"].is_not_null().sum()
    console.print(f"{predicted} of {counted(len(rows), 'row')} predicted", highlight=False)
    for by in _BY:
        table = scores(rows, *by)
        if len(table):
            title = f"Errors by {', '.join(TITLES[key] for key in by)} (predicted / measured - 1; bias: the median)"
            columns = [TableColumn(key, TITLES[key]) for key in table.columns]
            sweep_table([percentages(row) for row in table.iter_rows(named=True)], columns, console, title=title)
    if not len(scores(rows, "kind")):
        console.print("nothing was measured, so there is nothing to hold the predictions against", highlight=False)
    without = reasons(rows)
    if len(without):
        columns = [TableColumn(key, TITLES.get(key, key)) for key in without.columns]
        sweep_table(without.to_dicts(), columns, console, title="Without a prediction")


def percentages(row: dict[str, Any]) -> dict[str, Any]:
    """Return *row* of `scores` with its fractions in per cent; empty where nothing was scored."""
    found = dict(row)
    for name in ("core", "all"):
        for figure in ("mape", "p90", "bias"):
            value = row[f"{name}_{figure}"]
            sign = "+" if figure == "bias" else ""
            found[f"{name}_{figure}"] = None if value is None else f"{100 * value:{sign}.1f}"
    return found
