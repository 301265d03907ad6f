"""``gpusim sweep``: a simulation at every point."""

from __future__ import annotations

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
def sweep(
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
    as_json: JsonOption = False,
) -> None:
    """Simulate a scenario at every point of its sweep."""
    from gpusim.plan import open_scenario  # noqa: PLC0415
    from gpusim.progress import Progress  # noqa: PLC0415
    from gpusim.report.sweep import print_sweep, sweep_rows  # noqa: PLC0415
    from gpusim.sweeps import sweep_document  # noqa: PLC0415

    document = open_scenario(scenario, parse_assignments(overrides))
    grid = {path: _values(value) for path, value in parse_assignments(over).items()} or None
    with Progress("points") as progress:
        result = sweep_document(document, grid, on_point=progress.update_of)
    if as_json:
        print_json(sweep_rows(result))
    else:
        print_sweep(result, console(), title=str(document.data.get("name", "")))
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
