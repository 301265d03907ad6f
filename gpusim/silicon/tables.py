"""Columns and groups of a table of measurements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import polars as pl

from gpusim.core.arrays import FloatArray

ROW: Final = "row"
"""The column with the place of a row in its file."""
MEASURED: Final = "latency_us"
"""The measured time, in microseconds; it only scores, and may be absent."""


def columns(table: pl.DataFrame, *names: str) -> list[FloatArray]:
    """Return columns as arrays (rows,)."""
    return [table[name].to_numpy().astype(np.float64) for name in names]


def groups(table: pl.DataFrame, *names: str) -> Iterator[tuple[tuple[Any, ...], pl.DataFrame]]:
    """Yield the rows that share the values of some columns, with these, in an order that does not depend on the rows'."""
    yield from sorted(table.group_by(*names), key=lambda found: str(found[0]))
