"""What commands share: exit codes, options, printing."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gpusim.cli.completion import assignments, complete, gpu_devices, of, saved_runs, yaml_files
from gpusim.errors import SpecError
from gpusim.progress import silent

if TYPE_CHECKING:
    from gpusim.results.result import Result

complete_scenario = complete(of("example"), yaml_files)
complete_run = complete(of("example"), saved_runs, yaml_files)
complete_key = complete(assignments)
complete_engine = complete(of("engine"), yaml_files)
complete_model = complete(of("model"), yaml_files)

BAD_INPUT: Final = 2
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141
"""Whoever read our output went away: 128 + SIGPIPE, as for any program that ends so."""
WIDTH: Final = 120
"""Columns of what goes to a file or a pipe, unless the environment variable COLUMNS says otherwise."""

ScenarioArgument = Annotated[
    str,
    typer.Argument(
        metavar="SCENARIO",
        help="A path, or the name of an example (see gpusim list examples).",
        autocompletion=complete_scenario,
    ),
]
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="The directory of a run (gpusim run --out), or a scenario to simulate now.",
        autocompletion=complete_run,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set a key of the scenario by its dotted path; may be repeated.",
        autocompletion=complete_key,
    ),
]
WithOption = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="KEY=VALUE",
        help="Add the first run, a scenario, with this key set; may be repeated.",
        autocompletion=complete_key,
    ),
]
DeviceOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GPU=DEVICE",
        help="The device (name or file) of a GPU as the tables call it; may be repeated.",
        autocompletion=complete(gpu_devices),
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, quantities in SI, instead of tables.")]


def parse_assignments(assignments: list[str] | None) -> dict[str, Any]:
    """Turn ``key=value`` into values as YAML reads them."""
    from gpusim.spec.yaml_files import parse_scalar  # noqa: PLC0415

    parsed: dict[str, Any] = {}
    for text in assignments or []:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise SpecError(f"{text!r}: write KEY=VALUE, e.g. serving.max_num_seqs=64")
        parsed[path] = parse_scalar(value)
    return parsed


def opened(source: str, overrides: list[str] | None = None) -> Result:
    """Return the run that *source* names; a scenario is simulated, with a bar where that takes long.

    Raises:
        KeyboardInterrupt: If that was interrupted: a part of a run is no answer to what was asked of the whole.
    """
    from gpusim.open_run import is_saved, open_run  # noqa: PLC0415
    from gpusim.progress import Progress  # noqa: PLC0415

    with Progress("requests") as progress:
        result = open_run(source, parse_assignments(overrides), on_finished=progress.update)
    if not result.record.complete and not is_saved(Path(source)):
        raise KeyboardInterrupt
    if not result.record.complete:
        note(f"{source}: this run was interrupted; these are the requests that had finished")
    return result


def console() -> Any:
    """Return what tables are printed on."""
    from gpusim.cli.table_console import TableConsole  # noqa: PLC0415

    if sys.stdout.isatty():
        return TableConsole()
    columns = os.environ.get("COLUMNS", "")
    return TableConsole(
        width=int(columns) if columns.isdecimal() and int(columns) else WIDTH, no_color=True, force_terminal=False
    )


def discard_stdout() -> None:
    """Let nothing more be written to stdout, which nobody reads."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(data: Any) -> None:
    """Print *data* as JSON."""
    all_signs = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    typer.echo(json.dumps(data, indent=2, ensure_ascii=not all_signs))


def note(text: str) -> None:
    """Say something beside the data, on stderr, unless ``--quiet`` asks for silence."""
    if not silent.get():
        typer.echo(f"note: {text}", err=True)
