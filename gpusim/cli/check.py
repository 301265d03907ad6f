"""``gpusim check``: is a scenario good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from gpusim.cli.app import app
from gpusim.cli.common import (
    JsonOption,
    SetOption,
    complete_scenario,
    parse_assignments,
    print_json,
)
from gpusim.errors import SpecError
from gpusim.spelling import counted


@app.command()
def check(
    scenario: Annotated[
        str | None,
        typer.Argument(metavar="SCENARIO", help="A path, or the name of an example.", autocompletion=complete_scenario),
    ] = None,
    overrides: SetOption = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print the scenario with every default filled in.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of scenario files, for editors.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a scenario and its sweep without running them."""
    if schema:
        from gpusim.spec.scenario import Scenario  # noqa: PLC0415
        from gpusim.spec.schema import json_schema  # noqa: PLC0415

        print_json(json_schema(Scenario))
        return
    if scenario is None:
        raise SpecError("say which scenario to check, or --schema")
    from gpusim.checking import check_document  # noqa: PLC0415
    from gpusim.plan import open_scenario  # noqa: PLC0415

    plan, found = check_document(open_scenario(scenario, parse_assignments(overrides)))
    if as_json:
        print_json(plan.resolved() if resolved else {"scenario": scenario, "good": True, **found})
    elif resolved:
        from gpusim.spec.yaml_files import dump_yaml  # noqa: PLC0415

        typer.echo(dump_yaml(plan.resolved()), nl=False)
    else:
        typer.echo("\n".join([f"{scenario}: good", *_lines(found)]))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Say what was checked."""
    for trace in found["traces"]:
        yield f"  trace {trace['name']}: {counted(trace['requests'], 'request')}"
    for engine in found["engines"]:
        yield (
            f"  {engine['name']}: {engine['model']}, {_parameters(engine)}, on {', '.join(engine['gpus'])} ({engine['device']}), "
            f"{engine['kv_blocks']} KV blocks of {engine['block_size']} tokens"
        )
    if found["sweep_points"]:
        yield f"  sweep: {counted(found['sweep_points'], 'point')}"
    for warning in found["warnings"]:
        yield f"  warning: {warning}"


def _parameters(engine: Mapping[str, Any]) -> str:
    """Say how many parameters the model has, and how many of them a token uses where that is fewer."""
    all_of_them, active = (f"{engine[name] / 1e9:.3g} B" for name in ("parameters", "active_parameters"))
    return f"{all_of_them} parameters" if active == all_of_them else f"{all_of_them} parameters, {active} active"
