"""``gpusim trace``: a timeline for Perfetto."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpusim.cli.app import app
from gpusim.cli.common import (
    INTERRUPTED,
    JsonOption,
    RunArgument,
    SetOption,
    note,
    opened,
    parse_assignments,
    print_json,
)
from gpusim.errors import SpecError
from gpusim.files import check_parent
from gpusim.spelling import counted
from gpusim.version import __version__

if TYPE_CHECKING:
    from gpusim.plan import Plan
    from gpusim.results.result import Result
    from gpusim.trace.record import Traced
    from gpusim.trace.window import Window


@app.command()
def trace(  # noqa: PLR0917 - typer reads them by name
    run: RunArgument,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Show steps that start then or later, e.g. 30s.")
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="And before that. Default: 100 steps or 1 s, whichever is less."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The file to write; default: the run's name, here, with .trace.json.gz."
        ),
    ] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a timeline of some steps of a run, kernel by kernel, to open in ui.perfetto.dev."""
    from gpusim.progress import Progress  # noqa: PLC0415 - commands pay for what they use
    from gpusim.trace.record import write_timeline  # noqa: PLC0415
    from gpusim.trace.window import find_window  # noqa: PLC0415

    from_s, to_s = _seconds("--from", begin), _seconds("--to", end)
    target = out or Path(f"{Path(run).resolve().stem}.trace.json.gz")
    check_parent(target)
    if target.is_dir():
        raise SpecError(f"{target}: is a folder; name a file")
    result = opened(run, overrides)
    window = find_window(result.record.steps, from_s, to_s)
    plan = _plan(run, overrides)
    with Progress("requests") as progress:
        traced = write_timeline(plan, target, window, progress.update)
    _say(target, window, traced, result, as_json=as_json)
    if not traced.agrees(result.record):
        _say_why(plan, result)
    if end is None and not as_json:
        note("without --to: up to 100 steps, or 1 s if that is less")
    if not traced.is_whole:
        note("interrupted: the timeline ends there")
        raise typer.Exit(INTERRUPTED)


def _seconds(option: str, text: str | None) -> float | None:
    from gpusim.units import parse_quantity  # noqa: PLC0415

    if text is None:
        return None
    try:
        value = parse_quantity(text, "seconds")
    except ValueError as error:
        raise SpecError(f"{option}: {error}") from None
    if value < 0.0:
        raise SpecError(f"{option} {text}: a run starts at 0 s")
    return value


def _plan(run: str, overrides: list[str] | None) -> Plan:
    """Return the plan of a scenario, or of the one that a saved run holds."""
    from gpusim.open_run import is_saved  # noqa: PLC0415
    from gpusim.plan import open_scenario, plan_document  # noqa: PLC0415
    from gpusim.results.store import SCENARIO  # noqa: PLC0415

    source = Path(run) / SCENARIO if is_saved(Path(run)) else run
    return plan_document(open_scenario(source, parse_assignments(overrides)))


def _say(target: Path, window: Window, traced: Traced, result: Result, *, as_json: bool) -> None:
    """Say what was written."""
    from gpusim.units import MB  # noqa: PLC0415

    size_bytes = target.stat().st_size
    from_s, to_s = window.between
    if as_json:
        print_json(
            {
                "file": str(target),
                "size_bytes": size_bytes,
                "events": traced.num_events,
                "complete": traced.is_whole,
                "steps": window.num_steps if traced.is_whole else None,
                "from_s": from_s,
                "to_s": to_s,
                "same_token_times": traced.agrees(result.record),
            }
        )
    else:
        steps = f"{counted(window.num_steps, 'step that starts', 'steps that start')} from {from_s:g} s to {to_s:g} s"
        shown = steps if traced.is_whole else f"the first of {steps}"
        typer.echo(
            f"{target}: {shown}, {counted(traced.num_events, 'event')}, {size_bytes / MB:.3g} MB; open it in https://ui.perfetto.dev"
        )


def _say_why(plan: Plan, result: Result) -> None:
    """Say why the steps are not those of the run, as far as that can be told."""
    if plan.scenario.background and plan.scenario.detail == "step" and result.record.version == __version__:
        note(
            "the steps do not end in the ticks in which the run has them: beside copies of background: those of the timeline "
            "are played and those of the run are folded, which agrees within a percent; run with detail: kernel for the same"
        )
    else:
        note(
            f"the steps are not where the saved run has them: it was saved by gpusim {result.record.version}, this is "
            f"{__version__}, or a file of its workload has changed; the timeline shows the run as it is simulated now"
        )
