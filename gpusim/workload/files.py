"""Trace files: where they are, their text, packed or not, and how errors name their place."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

from gpusim.errors import SpecError

SUFFIXES: Final = (".csv", ".jsonl", ".json")
"""Endings of traces; each may have .gz behind it."""
PACKED: Final = ".gz"


class LineError(Exception):
    """What is wrong with the line being read; its place is added where it is known."""


def suffix_of(path: Path | str) -> str:
    """Return the ending that says the format: of what is packed, that within."""
    path = Path(path)
    return Path(path.stem).suffix.lower() if path.suffix.lower() == PACKED else path.suffix.lower()


def is_trace(name: str) -> bool:
    """Tell whether *name* is that of a trace, by its ending."""
    return suffix_of(name) in SUFFIXES


def locate_trace(trace: str, folder: Path) -> Path:
    """Return the file that *trace* means: relative to *folder*, else to the working directory.

    Raises:
        SpecError: If there is no such file, or its ending is that of no trace.
    """
    check_suffix(trace)
    places = [folder / trace, Path(trace)]
    for path in places:
        if path.is_file():
            return path
    if any(path.is_dir() for path in places):
        raise SpecError(f"trace {trace}: this is a folder; name the file in it")
    looked = " and ".join(dict.fromkeys(str(path) for path in places))
    raise SpecError(f"trace {trace}: no such file (looked for {looked})")


def check_suffix(trace: str) -> None:
    """Check that the name *trace* is one of a format that is read.

    Raises:
        SpecError: If it is not.
    """
    if not is_trace(trace):
        known = f"{', '.join(SUFFIXES)}, each also with {PACKED}"
        raise SpecError(f"trace {trace}: {suffix_of(trace) or 'no ending'} is not a trace format; known: {known}")


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """Open the text of *path*, unpacked; line ends are left as they are."""
    if path.suffix.lower() == PACKED:
        with gzip.open(path) as packed, io.TextIOWrapper(packed, encoding="utf-8-sig", newline="") as file:
            yield file
    else:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file


@contextmanager
def named_errors(path: Path, line: Callable[[], int]) -> Iterator[None]:
    """Turn what goes wrong in reading *path* into one error with its place; *line* tells the line being read."""
    try:
        yield
    except LineError as error:
        where = f"  line {line()}: " if line() else "  "
        raise SpecError(f"{path}:\n{where}{error}") from None
    except csv.Error as error:
        raise SpecError(f"{path}:\n  line {line()}: not CSV: {error}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}:\n  after line {line()}: not UTF-8 text") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SpecError(f"{path}: cannot be unpacked: {error}") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror or error}") from None
