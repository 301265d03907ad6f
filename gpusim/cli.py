"""The command line: parse, call the API, print. Data go to stdout, notes to stderr.

Exit codes: 0 good, 1 a comparison failed, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from gpusim.errors import GpusimError, SpecError

if TYPE_CHECKING:
    from gpusim.results.result import Result

BAD_INPUT: Final = 2
INTERRUPTED: Final = 130


class _Commands(TyperGroup):
    """The commands; errors meant for the user become one message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except GpusimError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(BAD_INPUT) from None
        except KeyboardInterrupt:
            _note("interrupted")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Commands,
    help="What latency will each token see? Simulates GPUs serving large language models.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

ScenarioArgument = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="A path, or the name of an example (see gpusim list examples).")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the scenario by its dotted path; may be repeated."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, quantities in SI, instead of tables.")]


def main() -> None:
    """Run the command line."""
    app(prog_name="gpusim")


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from gpusim.version import __version__  # noqa: PLC0415

        typer.echo(f"gpusim {__version__}")
        raise typer.Exit


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

    document = open_scenario(scenario, _parse(overrides))
    plan = plan_document(document)
    if out is not None:
        check_directory(out)
    if document.data.get("sweep"):
        _note("sweep: is for `gpusim sweep`; running the scenario without it")
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
            _print_json(result.summary())
        else:
            print_summary(result.summary(), _console())
    if not result.record.complete:
        _note("interrupted: these are the requests that had finished")
        raise typer.Exit(INTERRUPTED)


@app.command()
def sweep(
    scenario: ScenarioArgument,
    overrides: SetOption = None,
    over: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=V1,V2", help="Sweep this key instead of what the scenario says; repeated: crossed."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate a scenario at every point of its sweep."""
    from gpusim.plan import open_scenario  # noqa: PLC0415
    from gpusim.progress import Progress  # noqa: PLC0415
    from gpusim.report.sweep import print_sweep, sweep_rows  # noqa: PLC0415
    from gpusim.sweeps import sweep_document  # noqa: PLC0415

    document = open_scenario(scenario, _parse(overrides))
    grid = {path: _values(value) for path, value in _parse(over).items()} or None
    with Progress("points") as progress:
        result = sweep_document(document, grid, on_point=progress.update_of)
    if as_json:
        _print_json(sweep_rows(result))
    else:
        print_sweep(result, _console(), title=str(document.data.get("name", "")))
    for point, message in result.failures:
        typer.echo(f"error: at {point}: {message}", err=True)
    if not result.complete:
        _note(f"interrupted; points that had finished: {len(result)}")
    if result.failures or not result.complete:
        raise typer.Exit(BAD_INPUT if result.complete else INTERRUPTED)


@app.command()
def check(
    scenario: Annotated[
        str | None, typer.Argument(metavar="SCENARIO", help="A path, or the name of an example.")
    ] = None,
    overrides: SetOption = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print the scenario with every default filled in.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of scenario files, for editors.")
    ] = False,
) -> None:
    """Check a scenario and its sweep without running them."""
    if schema:
        from gpusim.spec.scenario import Scenario  # noqa: PLC0415
        from gpusim.spec.schema import json_schema  # noqa: PLC0415

        _print_json(json_schema(Scenario))
        return
    if scenario is None:
        raise SpecError("say which scenario to check, or --schema")
    from gpusim.checking import check_document  # noqa: PLC0415
    from gpusim.plan import open_scenario  # noqa: PLC0415

    plan, notes = check_document(open_scenario(scenario, _parse(overrides)))
    if resolved:
        from gpusim.spec.document import dump_yaml  # noqa: PLC0415

        typer.echo(dump_yaml(plan.resolved()), nl=False)
    else:
        typer.echo("\n".join([f"{scenario}: good", *notes]))


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
        _print_json(found[what.value] if what else found)
        return
    from gpusim.report.listing import print_listing  # noqa: PLC0415

    for title, rows in found.items():
        print_listing(title, rows, _console())


workload_app = typer.Typer(help="Look at workloads and traces.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(workload_app, name="workload")


@workload_app.command()
def show(
    workload: Annotated[
        str, typer.Argument(metavar="FILE", help="A trace, the YAML file of a workload, or its name (gpusim list).")
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
        _print_json(found)
    else:
        print_workload(workload, found, _console())


def _parse(assignments: list[str] | None) -> dict[str, Any]:
    """Turn ``key=value`` into values as YAML reads them."""
    from gpusim.spec.document import parse_scalar  # noqa: PLC0415

    parsed: dict[str, Any] = {}
    for text in assignments or []:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise SpecError(f"{text!r}: write KEY=VALUE, e.g. serving.max_num_seqs=64")
        parsed[path] = parse_scalar(value)
    return parsed


def _values(value: Any) -> list[Any]:
    """Return the values of ``--over``: a YAML list, or what commas separate."""
    from gpusim.spec.document import parse_scalar  # noqa: PLC0415

    if isinstance(value, list):
        return value
    return [parse_scalar(part.strip()) for part in value.split(",")] if isinstance(value, str) else [value]


def _expected(workload: Any) -> int | None:
    return None if workload is None else workload.num_requests


def _console() -> Any:
    from rich.console import Console  # noqa: PLC0415

    return Console(soft_wrap=False) if sys.stdout.isatty() else Console(width=120, no_color=True)


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def _note(text: str) -> None:
    typer.echo(f"note: {text}", err=True)
