"""Errors of predictions: mean absolute percentage error and its 90th percentile, by kind, GPU, engine and region."""

from __future__ import annotations

from typing import Final

import polars as pl

from gpusim.silicon.predictions import PREDICTED
from gpusim.silicon.tables import MEASURED

KEYS: Final = ("kind", "gpu", "engine", "region")


def scored(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that have both a prediction and a measurement, with their signed relative ``error``."""
    both = rows.filter(pl.col(PREDICTED).is_not_null(), pl.col(MEASURED) > 0)
    return both.with_columns(error=pl.col(PREDICTED) / pl.col(MEASURED) - 1)


def scores(rows: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Return, for each value of the columns *by* (of `KEYS`), rows and errors of core and of all rows, as fractions.

    Columns: *by*, core_rows, core_mape, core_p90, core_bias, all_rows, all_mape, all_p90, all_bias; bias is the median of the
    signed error.
    """
    columns = []
    for name, chosen in (("core", pl.col("core")), ("all", pl.lit(value=True))):
        error = pl.col("error").filter(chosen)
        columns += [
            error.len().alias(f"{name}_rows"),
            error.abs().mean().alias(f"{name}_mape"),
            error.abs().quantile(0.9, "linear").alias(f"{name}_p90"),
            error.median().alias(f"{name}_bias"),
        ]
    table = scored(rows)
    return table.group_by(*by).agg(columns).sort(*by) if by else table.select(columns)


def reasons(rows: pl.DataFrame) -> pl.DataFrame:
    """Return kind, gpu, reason and number of the rows without a prediction."""
    without = rows.filter(pl.col("reason").is_not_null())
    return without.group_by("kind", "gpu", "reason").agg(pl.len().alias("rows")).sort("kind", "gpu", "reason")
