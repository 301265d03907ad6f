"""What commands share: exit codes, options, printing."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gpusim.errors import SpecError

if TYPE_CHECKING:
    from gpusim.results.result import Result

BAD_INPUT: Final = 2
INTERRUPTED: Final = 130

ScenarioArgument = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="A path, or the name of an example (see gpusim list examples).")
]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="The directory of a run (gpusim run --out), or a scenario to simulate now.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the scenario by its dotted path; may be repeated."),
]
DeviceOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GPU=DEVICE", help="The device (name or file) of a GPU as the tables call it; may be repeated."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, quantities in SI, instead of tables.")]


def parse_assignments(assignments: list[str] | None) -> dict[str, Any]:
    """Turn ``key=value`` into values as YAML reads them."""
    from gpusim.spec.document import parse_scalar  # noqa: PLC0415

    parsed: dict[str, Any] = {}
    for text in assignments or []:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise SpecError(f"{text!r}: write KEY=VALUE, e.g. serving.max_num_seqs=64")
        parsed[path] = parse_scalar(value)
    return parsed


def opened(source: str, overrides: list[str] | None = None) -> Result:
    """Return the run that *source* names; a scenario is simulated, with a bar where that takes long."""
    from gpusim.open_run import open_run  # noqa: PLC0415
    from gpusim.progress import Progress  # noqa: PLC0415

    with Progress("requests") as progress:
        result = open_run(source, parse_assignments(overrides), on_finished=progress.update)
    if not result.record.complete:
        note(f"{source}: this run was interrupted; these are the requests that had finished")
    return result


def console() -> Any:
    """Return what tables are printed on."""
    from rich.console import Console  # noqa: PLC0415

    return Console(soft_wrap=False) if sys.stdout.isatty() else Console(width=120, no_color=True)


def print_json(data: Any) -> None:
    """Print *data* as JSON."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def note(text: str) -> None:
    """Say something beside the data, on stderr."""
    typer.echo(f"note: {text}", err=True)
