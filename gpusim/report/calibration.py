"""What `gpusim calibrate` found: errors of each law, and how many numbers were fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gpusim.report.terminal import TableColumn, sweep_table

if TYPE_CHECKING:
    from rich.console import Console

    from gpusim.calibrate.calibration import Calibration

_COLUMNS = (
    TableColumn("law", "law"),
    TableColumn("rows", "rows fitted"),
    TableColumn("mape", "MAPE %"),
    TableColumn("p90", "p90 %"),
    TableColumn("held_out_rows", "rows kept out"),
    TableColumn("held_out_mape", "MAPE %"),
    TableColumn("held_out_p90", "p90 %"),
)


def calibration_summary(found: Calibration, totals: Mapping[str, int]) -> dict[str, Any]:
    """Return errors by law (fractions), and totals of parameters."""
    return {
        "device": found.device.name,
        "laws": {law: fit.model_dump() for law, fit in found.fits.items()},
        "parameters": dict(totals),
        "parameters_total": sum(totals.values()),
    }


def print_calibration(found: Calibration, totals: Mapping[str, int], console: Console) -> None:
    """Print the same as a table."""
    rows = [{"law": law, **_percentages(fit.model_dump())} for law, fit in found.fits.items()]
    sweep_table(rows, _COLUMNS, console, title=f"Laws of {found.device.name}: |predicted / measured - 1|")
    parts = ", ".join(f"{count} {name}" for name, count in totals.items())
    console.print(f"{sum(totals.values())} numbers fitted: {parts}", highlight=False, markup=False)


def _percentages(fit: dict[str, Any]) -> dict[str, Any]:
    return {
        key: f"{100 * value:.1f}" if isinstance(value, float) else value
        for key, value in fit.items()
        if key != "tables"
    }
