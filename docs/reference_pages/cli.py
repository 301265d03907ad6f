"""docs/reference/cli.md: every command with its arguments and options.

Read from the objects that parse the command line. Typer's own ``typer utils docs`` writes other text from release to release,
which a page that is held against the code cannot do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import typer

from gpusim.cli import app
from reference_pages.markdown import code, prose, table

HEAD = """# Commands

What `gpusim --help` and `gpusim COMMAND --help` say, on one page. Output, exit codes and completion are the same for all of them:
[the command line](../command-line.md). `-h` and `--help` are options of every command.
"""
COMPLETION: Final = {"install_completion", "show_completion"}
"""Options that are Typer's own; what it says of them depends on the shell."""


def page() -> str:
    """Return the page."""
    return "\n".join([HEAD, *_sections(typer.main.get_command(app), "gpusim")])


def _sections(command: Any, name: str) -> Iterator[str]:
    commands = getattr(command, "commands", {})
    yield f"## `{name}`\n\n{prose(command.help or '')}\n\n```text\n{_usage(command, name)}\n```\n"
    rows = [
        (code(_written(p)), _meaning(p), _default(p))
        for p in command.params
        if not p.hidden and p.name not in COMPLETION
    ]
    if rows:
        yield table(("argument or option", "meaning", "default"), rows)
    for sub, each in commands.items():
        if not each.hidden:
            yield from _sections(each, f"{name} {sub}")


def _usage(command: Any, name: str) -> str:
    if getattr(command, "commands", None):
        return f"{name} COMMAND"
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = len(arguments) < len(command.params)
    return " ".join([name, *(["[OPTIONS]"] if options else []), *map(_argument, arguments)])


def _argument(parameter: Any) -> str:
    shown = _metavar(parameter)
    if parameter.nargs == -1 and not shown.endswith("..."):
        shown += "..."
    return shown if parameter.required or shown.startswith("[") else f"[{shown}]"


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _written(parameter: Any) -> str:
    """Return how a parameter is written on the command line."""
    if parameter.param_type_name == "argument":
        return _metavar(parameter)
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {_metavar(parameter)}"


def _meaning(parameter: Any) -> str:
    return prose(parameter.help or "")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default in (None, False, (), []):
        return ""
    return code(str(getattr(parameter.default, "value", parameter.default)))
