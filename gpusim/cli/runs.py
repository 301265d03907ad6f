"""``gpusim runs``: folders of measured serving runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpusim.cli.app import Commands, app
from gpusim.cli.common import JsonOption, complete_model, note, print_json
from gpusim.cli.completion import complete, of
from gpusim.spelling import counted

runs_app = Commands("Make folders of measured serving runs.")
app.add_typer(runs_app, name="runs")


@runs_app.callback()
def _runs() -> None:
    """Keep the name of the command where there is only one."""


@runs_app.command()
def from_bench(  # noqa: PLR0917 - typer reads them by name
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Result files of vllm bench serve (JSON).")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write to; it is made if it is not there.")],
    gpu: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The GPU the server ran on, as gpusim list devices has it.",
            autocompletion=complete(of("device")),
        ),
    ],
    tensor_parallel: Annotated[int, typer.Option(metavar="N", min=1, help="How many of them, in one replica.")] = 1,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The model (name or file). Default: the one the results name.",
            autocompletion=complete_model,
        ),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="What the server was started with, e.g. max_num_seqs=128; may be repeated."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn result files of vllm bench serve into runs that `gpusim validate serving` reads."""
    from gpusim.runs.from_bench import Server, convert, engine_keys  # noqa: PLC0415 - commands pay for what they use

    names = convert(files, out, Server(gpu, tensor_parallel, model, engine_keys(engine or [])))
    if as_json:
        print_json({"folder": str(out), "runs": names})
    else:
        typer.echo(f"{out}: {counted(len(names), 'run')}: {', '.join(names)}")
    note(f"gpusim validate serving {out} simulates them")
