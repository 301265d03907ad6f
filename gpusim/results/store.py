"""What a run leaves on disk: written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Final

from gpusim.core.interrupt import on_interrupt
from gpusim.errors import GpusimError
from gpusim.results.summary import SUMMARY_SCHEMA

if TYPE_CHECKING:
    import polars as pl

SUMMARY: Final = "summary.json"
SCENARIO: Final = "scenario.yaml"
TABLES: Final = ("requests", "segments", "steps", "runs", "use")
OWN: Final = {SUMMARY, SCENARIO, *(f"{stem}.parquet" for stem in TABLES)}
"""Names of all files of a run; a directory that holds others is not replaced."""
ROW_GROUP: Final = 1 << 18
"""Rows of a Parquet row group."""


def write_results(
    directory: Path, *, summary: Mapping[str, Any], tables: Mapping[str, Iterator[pl.DataFrame]], scenario_yaml: str
) -> None:
    """Write a run to *directory*, replacing an earlier run's there.

    Everything is written to a sibling first and renamed, so *directory* never holds half a run.

    Args:
        directory: Where to; its parents are made.
        summary: As `build_summary` makes it.
        tables: Parquet files by stem, in pieces, as `all_tables` makes them.
        scenario_yaml: The resolved scenario, ready to run again.

    Raises:
        GpusimError: If *directory* holds anything but an earlier run, or cannot be written.
    """
    directory = directory.resolve()
    check_directory(directory)
    partial = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    interrupted = Event()
    # Left to polars, Ctrl-C raises twice, once in the middle of clearing up; so the table under way is finished first.
    with on_interrupt(interrupted.set):
        try:
            partial.mkdir(parents=True)
            (partial / SUMMARY).write_text(to_json(summary), encoding="utf-8", newline="\n")
            (partial / SCENARIO).write_text(scenario_yaml, encoding="utf-8", newline="\n")
            for stem, pieces in tables.items():
                _write_parquet(partial / f"{stem}.parquet", pieces)
                if interrupted.is_set():
                    raise KeyboardInterrupt
            _replace(directory, partial)
        except OSError as error:
            raise GpusimError(f"{directory}: cannot write the results: {error.strerror or error}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _write_parquet(path: Path, pieces: Iterator[pl.DataFrame]) -> None:
    """Write a table to *path* piece by piece; the next one is made when there is room for it.

    Raises:
        OSError: If there is no room, or no right to.
    """
    from polars.exceptions import ComputeError  # noqa: PLC0415 - slow to import
    from polars.io.plugins import register_io_source  # noqa: PLC0415 - slow to import

    first = next(pieces)

    def source(*_: Any) -> Iterator[pl.DataFrame]:
        yield first
        yield from pieces

    # Stated, for by default row groups depend on the number of threads.
    try:
        register_io_source(source, schema=first.schema).sink_parquet(path, row_group_size=ROW_GROUP)
    except ComputeError as error:
        # So polars says that a disk is full.
        raise OSError(str(error)) from error


def to_json(summary: Mapping[str, Any]) -> str:
    """Write *summary* as the text of summary.json: floats in full, keys in order, two spaces."""
    return json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_summary(path: Path) -> dict[str, Any]:
    """Read the summary of a run from its directory, or from the summary.json in it.

    Raises:
        GpusimError: If there is none, or it is of a newer schema.
    """
    file = path / SUMMARY if path.is_dir() else path
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise GpusimError(
            f"{path}: no results of a run here ({SUMMARY} cannot be read); gpusim run SCENARIO --out {path} writes them"
        ) from error
    except ValueError as error:
        raise GpusimError(f"{file}: not a summary of a run: {error}") from error
    if not _is_summary(summary):
        raise GpusimError(
            f"{file}: not a summary of a run: it has no schema number and scenario_hash; gpusim run --out writes one"
        )
    if summary["schema"] > SUMMARY_SCHEMA:
        raise GpusimError(
            f"{file}: schema {summary['schema']} is newer than this gpusim reads ({SUMMARY_SCHEMA}); install a newer gpusim"
        )
    return dict(summary)


def _is_summary(data: Any) -> bool:
    return isinstance(data, dict) and isinstance(data.get("schema"), int) and "scenario_hash" in data


def check_directory(directory: Path) -> None:
    """Check, before a run that takes long, that its results could be written to *directory*.

    Raises:
        GpusimError: If it is a file, or holds anything but an earlier run.
    """
    if not directory.exists():
        return
    if not directory.is_dir():
        raise GpusimError(f"{directory} is a file; choose another directory for the results")
    names = {entry.name for entry in directory.iterdir()}
    strangers = sorted(names - OWN) or sorted(names if SUMMARY not in names else ())
    if strangers:
        raise GpusimError(f"{directory} holds {strangers[0]}, which is not part of a run; choose another directory")
    if names:
        read_summary(directory)


def _replace(directory: Path, partial: Path) -> None:
    """Put *partial* in the place of *directory*; if that fails, what was there comes back."""
    if not directory.exists():
        partial.rename(directory)
        return
    old = partial.with_suffix(".old")
    directory.rename(old)
    try:
        partial.rename(directory)
    except OSError:
        old.rename(directory)
        raise
    shutil.rmtree(old)
