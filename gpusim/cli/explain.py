"""``gpusim explain``: why tokens waited, and what would change it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpusim.cli.app import app
from gpusim.cli.common import INTERRUPTED, JsonOption, RunArgument, SetOption, console, note, opened, print_json


@app.command()
def explain(  # noqa: PLR0917 - typer reads them by name
    run: RunArgument,
    overrides: SetOption = None,
    factor: Annotated[
        float, typer.Option(metavar="F", help="How many times as good everything gets, one at a time.")
    ] = 1.1,
    no_sensitivity: Annotated[bool, typer.Option("--no-sensitivity", help="Simulate nothing more.")] = False,
    processes: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Runs simulated at once. Default: one for each core.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each of the changed runs to a directory in this one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say where tokens' time went, what waited for what, and what a change would bring."""
    from gpusim.explain.explanation import explain as explained  # noqa: PLC0415 - commands pay for what they use
    from gpusim.progress import Progress  # noqa: PLC0415
    from gpusim.report.explain import print_explanation  # noqa: PLC0415
    from gpusim.runs.predictions import cores  # noqa: PLC0415

    result = opened(run, overrides)
    with Progress("runs") as progress:
        told = explained(
            result,
            factor=factor,
            sensitivity=not no_sensitivity,
            processes=processes or cores(),
            out=out,
            on_done=progress.update_of,
        )
    if as_json:
        print_json(told)
    else:
        print_explanation(told, console())
    if not told["complete"]:
        note(f"interrupted; changes that had been simulated: {len(told['sensitivities']) + len(told['without'])}")
        raise typer.Exit(INTERRUPTED)
