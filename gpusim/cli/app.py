"""The program: its options, its errors, its exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from gpusim.cli.common import BAD_INPUT, INTERRUPTED, PIPE_CLOSED, discard_stdout, note
from gpusim.errors import GpusimError
from gpusim.progress import silent
from gpusim.spelling import unknown_name

_UsageError: Final[Any] = typer.BadParameter.__base__
"""What is raised where a command line cannot be parsed; typer does not export it."""


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Turn errors meant for the user into one message and an exit code."""
    try:
        yield
    except GpusimError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    except _UsageError as error:
        typer.echo(f"error: {_explain(error)}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    except BrokenPipeError:
        discard_stdout()
        raise typer.Exit(PIPE_CLOSED) from None
    except KeyboardInterrupt:
        note("interrupted")
        raise typer.Exit(INTERRUPTED) from None


def _explain(error: Any) -> str:
    """Say what is wrong with a command line, and where the right one is written."""
    message = " ".join(error.format_message().split()).removesuffix(".").replace("Value error, ", "")
    context = error.ctx
    if context is None:
        return message[0].lower() + message[1:]
    if hasattr(error, "possibilities"):
        options = [name for each in context.command.get_params(context) for name in each.opts if name.startswith("--")]
        message = f"{error.option_name}: {unknown_name(error.option_name, options, 'option')}"
    return _with_help(message[0].lower() + message[1:], context)


def _with_help(message: str, context: Any) -> str:
    return message if message.endswith("?") else f"{message}; see {context.command_path} --help"


def _with_quiet(params: list[Any], ctx: Any) -> list[Any]:
    """Return *params* with the program's ``--quiet`` before the last, which is ``--help``."""
    shared = [each for each in ctx.find_root().command.params if each.name == "quiet" and each not in params]
    return [*params[:-1], *shared, *params[-1:]]


class _Command(TyperCommand):
    """A command."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _with_quiet(super().get_params(ctx), ctx)


class _Commands(TyperGroup):
    """The program, or several commands under one name; without one of them it says which there are."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _with_quiet(super().get_params(ctx), ctx)

    def make_context(self, *arguments: Any, **known: Any) -> Any:
        with _exit_codes():
            return super().make_context(*arguments, **known)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            hint = unknown_name(name, self.list_commands(ctx), "command")
            raise GpusimError(_with_help(f"{name!r}: {hint}", ctx))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with _exit_codes():
            return super().invoke(ctx)


class Commands(typer.Typer):
    """Commands that behave alike: one line for an error, the same exit codes, ``--quiet``."""

    def __init__(self, text: str) -> None:
        super().__init__(
            cls=_Commands,
            help=text,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        )

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """Make a function a command."""
        return super().command(name, **{"cls": _Command, **options})


app = Commands("What latency will each token see? Simulates GPUs serving large language models.")


def _be_quiet(ctx: typer.Context, *, value: bool) -> None:
    if value:
        before = silent.set(True)
        ctx.find_root().call_on_close(lambda: silent.reset(before))


@app.callback(invoke_without_command=True)
def _options(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", callback=_be_quiet, expose_value=False, help="Print no notes and no progress."),
    ] = False,
) -> None:
    del quiet  # its callback has heard it, also where it stands behind the command
    if version:
        from gpusim.version import __version__  # noqa: PLC0415

        typer.echo(f"gpusim {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        raise GpusimError("missing command; see gpusim --help")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or a file that cannot hold every sign gets a question mark instead of a traceback.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    app(arguments, prog_name="gpusim")
