"""Which measured rows a fit reads, and which are kept out of it."""

from __future__ import annotations

from typing import Final
from zlib import crc32

import polars as pl

HELD_OUT_PART: Final = 4
"""One shape in so many is kept out."""


def held_out(table: pl.DataFrame, shape: tuple[str, ...]) -> pl.Series:
    """Say of each row whether it is kept out of a fit: by its *shape* columns, so that rows which share them go together.

    Neither the order of the rows nor their ids matter.
    """
    keys = table.select(pl.concat_str([pl.col(name).cast(pl.String) for name in shape], separator="|").alias("key"))
    known = {key: crc32(key.encode()) % HELD_OUT_PART == 0 for key in keys["key"].unique()}
    return keys["key"].replace_strict(known, return_dtype=pl.Boolean)


def thinned(table: pl.DataFrame, columns: tuple[str, ...], most: int) -> pl.DataFrame:
    """Return at most *most* rows, chosen by a number made of *columns*, whatever the order of the rows."""
    if len(table) <= most:
        return table
    keys = table.select(pl.concat_str([pl.col(name).cast(pl.String) for name in columns], separator="|").alias("key"))
    numbers = pl.Series("number", [crc32(f"thin|{key}".encode()) for key in keys["key"]])
    return table.with_columns(numbers).sort("number", *columns).head(most).drop("number")
