"""``gpusim workload``: look at workloads and traces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpusim.cli.app import Commands, app
from gpusim.cli.common import (
    JsonOption,
    console,
    print_json,
)
from gpusim.cli.completion import complete, files, of

workload_app = Commands("Look at workloads and traces.")
app.add_typer(workload_app, name="workload")


@workload_app.command()
def show(
    workload: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A trace, the YAML file of a workload, or its name (gpusim list).",
            autocompletion=complete(of("workload"), files),
        ),
    ],
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn, where the workload states none.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Say how many requests a workload has, how often they come, how long they are, and how much repeats."""
    from gpusim.report.workload import print_workload  # noqa: PLC0415
    from gpusim.workload.named import blocks_of  # noqa: PLC0415
    from gpusim.workload.statistics import describe  # noqa: PLC0415

    found = describe(blocks_of(workload, seed=seed, folder=Path()))
    if as_json:
        print_json(found)
    else:
        print_workload(workload, found, console())
