"""``gpusim list``: what is known by name."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from gpusim.cli.app import app
from gpusim.cli.common import (
    JsonOption,
    console,
    print_json,
)


class Catalog(StrEnum):
    """What `gpusim list` lists."""

    DEVICES = "devices"
    MODELS = "models"
    TOPOLOGIES = "topologies"
    WORKLOADS = "workloads"
    EXAMPLES = "examples"


@app.command("list")
def list_names(
    what: Annotated[Catalog | None, typer.Argument(metavar="KIND", help="Only this kind of thing.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List what gpusim knows by name."""
    from gpusim.listing import describe  # noqa: PLC0415

    found = {each.value: describe(each.value) for each in ([what] if what else Catalog)}
    if as_json:
        print_json(found[what.value] if what else found)
        return
    from gpusim.report.listing import print_listing  # noqa: PLC0415

    for title, rows in found.items():
        print_listing(title, rows, console())
