"""``gpusim run``: one simulation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpusim.cli.app import app
from gpusim.cli.common import (
    INTERRUPTED,
    JsonOption,
    ScenarioArgument,
    SetOption,
    console,
    note,
    parse_assignments,
    print_json,
)

if TYPE_CHECKING:
    from gpusim.results.result import Result


@app.command()
def run(
    scenario: ScenarioArgument,
    overrides: SetOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write summary.json, the tables in Parquet and scenario.yaml to this directory."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate a scenario and print what its tokens saw."""
    from gpusim.plan import open_scenario, plan_document  # noqa: PLC0415 - commands pay for what they use
    from gpusim.progress import Progress  # noqa: PLC0415
    from gpusim.results.store import check_directory  # noqa: PLC0415
    from gpusim.simulation import Simulation  # noqa: PLC0415

    document = open_scenario(scenario, parse_assignments(overrides))
    plan = plan_document(document)
    if out is not None:
        check_directory(out)
    if document.data.get("sweep"):
        note("sweep: is for `gpusim sweep`; running the scenario without it")
    with Progress("requests", _expected(plan.workload)) as progress:
        result = Simulation(plan, on_finished=progress.update).run()
    _hand_over(result, out, as_json=as_json)


def _hand_over(result: Result, out: Path | None, *, as_json: bool) -> None:
    """Save and print a run; what cannot be saved is printed all the same."""
    from gpusim.report.terminal import print_summary  # noqa: PLC0415

    try:
        if out is not None:
            result.save(out)
    finally:
        if as_json:
            print_json(result.summary())
        else:
            print_summary(result.summary(), console())
    if not result.record.complete:
        note("interrupted: these are the requests that had finished")
        raise typer.Exit(INTERRUPTED)


def _expected(workload: Any) -> int | None:
    return None if workload is None else workload.num_requests
