"""``gpusim sweep``: a simulation at every point."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gpusim.cli.app import app
from gpusim.cli.common import (
    BAD_INPUT,
    INTERRUPTED,
    JsonOption,
    ScenarioArgument,
    SetOption,
    complete_key,
    console,
    note,
    parse_assignments,
    print_json,
)


@app.command()
def sweep(  # noqa: PLR0917 - typer reads them by name
    scenario: ScenarioArgument,
    overrides: SetOption = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=V1,V2",
            help="Sweep this key instead of what the scenario says; repeated: crossed.",
            autocompletion=complete_key,
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Show this metric, e.g. itl.p99, instead of the usual ones; may be repeated."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the run of each point to a directory in this one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate a scenario at every point of its sweep."""
    from gpusim.plan import open_scenario  # noqa: PLC0415
    from gpusim.progress import Progress  # noqa: PLC0415
    from gpusim.report.sweep import print_sweep, sweep_rows  # noqa: PLC0415
    from gpusim.results.change import check_metrics  # noqa: PLC0415
    from gpusim.sweeps import sweep_document  # noqa: PLC0415

    check_metrics(metric or ())
    document = open_scenario(scenario, parse_assignments(overrides))
    grid = {path: _values(value) for path, value in parse_assignments(over).items()} or None
    with Progress("points") as progress:
        result = sweep_document(document, grid, out=out, on_point=progress.update_of)
    if as_json:
        print_json(sweep_rows(result, metric))
    elif len(result):
        print_sweep(result, console(), metrics=metric, title=str(document.data.get("name", "")))
    for point, message in result.failures:
        typer.echo(f"error: at {point}: {message}", err=True)
    if not result.complete:
        note(f"interrupted; points that had finished: {len(result)}")
    if result.failures or not result.complete:
        raise typer.Exit(BAD_INPUT if result.complete else INTERRUPTED)


def _values(value: Any) -> list[Any]:
    """Return the values of ``--over``: a YAML list, or what commas separate."""
    from gpusim.spec.yaml_files import parse_scalar  # noqa: PLC0415

    if isinstance(value, list):
        return value
    return [parse_scalar(part.strip()) for part in value.split(",")] if isinstance(value, str) else [value]
