"""``gpusim list``: what is known by name."""

from __future__ import annotations

from typing import Annotated

import typer

from gpusim.cli.app import app
from gpusim.cli.common import (
    JsonOption,
    console,
    print_json,
)
from gpusim.cli.completion import complete, kinds
from gpusim.spec.folders import FOLDERS


@app.command("list")
def list_names(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND",
            help=f"Only this kind of thing: {', '.join(FOLDERS.values())}.",
            autocompletion=complete(kinds),
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List what gpusim knows by name."""
    from gpusim.listing import describe  # noqa: PLC0415

    found = {each: describe(each) for each in ([what] if what else FOLDERS.values())}
    if as_json:
        print_json(found[what] if what else found)
        return
    from gpusim.report.listing import print_listing  # noqa: PLC0415

    for title, rows in found.items():
        print_listing(title, rows, console())
