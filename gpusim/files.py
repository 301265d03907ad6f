"""Writing single files so that nobody ever sees half of one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gpusim.errors import SpecError


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
