"""What `gpusim calibrate --engine` found: parameters, the runs read, and errors in sample and left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from gpusim.calibrate.engine_model import FITTED_METRICS
from gpusim.report.terminal import TableColumn, sweep_table
from gpusim.spelling import counted
from gpusim.units import ms

if TYPE_CHECKING:
    from rich.console import Console

    from gpusim.calibrate.engine import EngineFit

_METRICS: Final = [TableColumn(name, name.removesuffix("_s").replace("_", " ")) for name in FITTED_METRICS]


def print_engine_fit(found: EngineFit, console: Console) -> None:
    """Print the runs read, the parameters with their ranges, and the errors."""
    summary = found.summary()
    names = ", ".join(summary["runs"])
    console.print(f"{counted(len(summary['runs']), 'run')} read: {names}", highlight=False, markup=False)
    for name, reason in found.without.items():
        console.print(f"without {name}: {reason}", highlight=False, markup=False)
    ranges = found.ranges()
    rows = [
        {"parameter": name, "value": _ms(value), "least": _ms(ranges[name][0]), "largest": _ms(ranges[name][1])}
        for name, value in found.values().items()
    ]
    columns = [
        TableColumn("parameter", "parameter"),
        TableColumn("value", "ms"),
        TableColumn("least", "least"),
        TableColumn("largest", "largest"),
    ]
    sweep_table(rows, columns, console, title=f"Engine {found.profile.name}; ranges with groups of runs left out")
    columns = [TableColumn("runs", "runs"), *_METRICS]
    title = "Mean size of the error in %; in sample simulated, left out by the linear model"
    sweep_table([_percentages(title, errors) for title, errors in _errors(summary)], columns, console, title=title)


def _errors(summary: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, float | None]]]:
    """Yield what is left out and errors by metric."""
    yield "in sample", summary["in_sample"]
    for by, left_out in summary["left_out"].items():
        for name, fold in left_out["folds"].items():
            yield f"without {by} {name}", fold
        yield f"each {by} left out: mean of runs", left_out["mean_of_runs"]
        yield f"each {by} left out: median of folds", left_out["median_of_folds"]


def _percentages(title: str, errors: Mapping[str, float | None]) -> dict[str, Any]:
    found = {name: errors.get(name) for name in FITTED_METRICS}
    return {"runs": title} | {name: None if value is None else f"{100 * value:.1f}" for name, value in found.items()}


def _ms(seconds: float) -> str:
    return f"{seconds / ms:.4g}"
