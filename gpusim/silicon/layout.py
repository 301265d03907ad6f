"""A folder of measured tables: which files are known, and their rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from gpusim.errors import SpecError
from gpusim.silicon.calls import Family
from gpusim.silicon.families import FAMILIES
from gpusim.silicon.tables import MEASURED, ROW

_ENDINGS: Final = (".csv.gz", ".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class Measurements:
    """The rows of one table."""

    family: Family
    path: Path
    table: pl.DataFrame
    """As in the file, with the place of each row in the column ``row``."""


def read_folder(folder: Path) -> list[Measurements]:
    """Read the tables of *folder* that are known.

    Raises:
        SpecError: If there is no such folder, none of its files is known, or one lacks a column or has words for numbers.
    """
    if not folder.is_dir():
        raise SpecError(f"{folder}: no such folder; name one with tables such as {FAMILIES[0].file}.csv.gz")
    found = [(family, path) for family in FAMILIES for path in [_path(folder, family)] if path is not None]
    if not found:
        known = ", ".join(family.file for family in FAMILIES)
        raise SpecError(f"{folder}: holds none of the tables that can be validated ({known}; {' or '.join(_ENDINGS)})")
    return [Measurements(family, path, _read(path, family)) for family, path in found]


def unknown_files(folder: Path) -> list[str]:
    """Return the names of tables in *folder* that no family reads."""
    known = {family.file + ending for family in FAMILIES for ending in _ENDINGS}
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(_ENDINGS) and path.name not in known)


def _path(folder: Path, family: Family) -> Path | None:
    paths = (folder / f"{family.file}{ending}" for ending in _ENDINGS)
    return next((path for path in paths if path.is_file()), None)


def _read(path: Path, family: Family) -> pl.DataFrame:
    try:
        table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SpecError(f"{path}: cannot be read as a table: {str(error).splitlines()[0]}") from None
    missing = [name for name in ("id", "gpu", *family.columns) if name not in table.columns]
    if missing:
        raise SpecError(f"{path}: no column {', '.join(missing)}; {family.kind} rows state id, gpu and more")
    for name in [*family.numbers, MEASURED]:
        if name in table.columns and not table[name].dtype.is_numeric() and table[name].null_count() < len(table):
            raise SpecError(f"{path}: column {name} holds words where numbers belong, such as {table[name][0]!r}")
    return table.with_columns(pl.col("id").cast(pl.String)).with_row_index(ROW)
