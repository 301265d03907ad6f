"""Writing single files so that nobody ever sees half of one, and names for files and folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from gpusim.errors import SpecError

_LONGEST: Final = 100
"""Characters of a name."""


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have *write* fill a sibling of *path*, which then takes its place.

    Raises:
        SpecError: If it cannot be written; what was at *path* before is still there.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        _remove(temporary)
        raise SpecError(f"{path}: cannot be written: {error.strerror or error}") from None
    except BaseException:
        _remove(temporary)
        raise


def _remove(path: Path) -> None:
    """Remove a file if it is there and that can be done."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write *text* to *path*, see `write_whole`."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def check_parent(*paths: Path | None) -> None:
    """See that the folders of files to be written are there, before anything is computed.

    Raises:
        SpecError: If one is not.
    """
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise SpecError(f"{path}: there is no folder {path.parent}; make it first")


def make_folder(path: Path) -> None:
    """Make the folder *path* where there is none.

    Raises:
        SpecError: If it cannot be made.
    """
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise SpecError(f"{path}: no folder can be made there: {error.strerror or error}") from None


def plain_name(text: str) -> str:
    """Return *text* as a name that any system takes: of letters, digits, and ``-_.`` only."""
    return re.sub("[^A-Za-z0-9_.]+", "-", text).rstrip("-.")


def distinct_names(wanted: Iterable[str]) -> list[str]:
    """Return names of at most 100 characters that all are different, also where capitals do not count: ``a``, ``A-2``."""
    names: list[str] = []
    taken: set[str] = set()
    for each in wanted:
        name = short = each[:_LONGEST]
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{short}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names
