"""The program: its options, its errors, its exit codes."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gpusim.cli.common import BAD_INPUT, INTERRUPTED, note
from gpusim.errors import GpusimError


class _Commands(TyperGroup):
    """The commands; errors meant for the user become one message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except GpusimError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(BAD_INPUT) from None
        except KeyboardInterrupt:
            note("interrupted")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Commands,
    help="What latency will each token see? Simulates GPUs serving large language models.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from gpusim.version import __version__  # noqa: PLC0415

        typer.echo(f"gpusim {__version__}")
        raise typer.Exit
