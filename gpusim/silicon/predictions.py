"""A prediction, or a named reason why there is none, for every row of a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.files import write_whole
from gpusim.runtime.default_laws import unmeasured
from gpusim.silicon.bench import Bench
from gpusim.silicon.calls import Family
from gpusim.silicon.layout import Measurements
from gpusim.silicon.machines import device_name
from gpusim.silicon.tables import MEASURED, ROW
from gpusim.spec.device import DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.names import read
from gpusim.units import us

PREDICTED = "predicted_us"


def predict(
    measured: Measurements, devices: Mapping[str, DeviceSpec] | None = None, *, left_out: bool = False
) -> pl.DataFrame:
    """Return the rows of one table as id, kind, gpu, engine, region, core, predicted_us, reason and latency_us, in order.

    Args:
        measured: The table.
        devices: Devices by the name the table has for them, where the catalog's are not meant.
        left_out: Take every device for unmeasured: its laws are those that the default rule gives it from others.
    """
    family, table = measured.family, measured.table
    parts = []
    for (gpu,), rows in table.group_by("gpu"):
        device = (devices or {}).get(str(gpu)) or _catalog_device(str(gpu))
        if device is None:
            reason = f"no device {gpu!r} in the catalog; name a file with --device {gpu}=FILE"
            parts.append(_unpredicted(rows, family, reason))
        else:
            parts.append(_predicted(rows, family, unmeasured(device) if left_out else device))
    return pl.concat(parts).sort(ROW).drop(ROW)


def predict_all(
    folder: Sequence[Measurements], devices: Mapping[str, DeviceSpec] | None = None, *, left_out: bool = False
) -> pl.DataFrame:
    """Return the rows of all tables of a folder, see `predict`."""
    return pl.concat([predict(measured, devices, left_out=left_out) for measured in folder])


def write_predictions(rows: pl.DataFrame, path: Path) -> None:
    """Write ``id,latency_us`` of all rows that have a prediction, in order; atomically.

    Raises:
        SpecError: If *path* cannot be written.
    """
    predicted = rows.filter(pl.col(PREDICTED).is_not_null()).select("id", pl.col(PREDICTED).alias(MEASURED))
    write_whole(path, predicted.write_csv)


def _catalog_device(gpu: str) -> DeviceSpec | None:
    name = device_name(gpu)
    return None if name is None else validate(DeviceSpec, read("device", name))


def _predicted(rows: pl.DataFrame, family: Family, device: DeviceSpec) -> pl.DataFrame:
    rows = rows.with_columns(reason=_reason(family, rows))
    usable = rows.filter(pl.col("reason").is_null())
    seconds = np.full(int(rows[ROW].max()) + 1, np.nan)  # type: ignore[arg-type]
    for calls, times in timed(usable, family, device):
        seconds[calls] = times
    found = seconds[rows[ROW].to_numpy()]
    rows = rows.with_columns(pl.Series(PREDICTED, found / us).fill_nan(None))
    unexplained = pl.col("reason").is_null() & pl.col(PREDICTED).is_null()
    rows = rows.with_columns(
        reason=pl.when(unexplained).then(pl.lit("not modelled")).otherwise(pl.col("reason")),
        core=family.core(rows, device),
        region=family.region(),
    )
    return _tidy(rows, family)


def timed(rows: pl.DataFrame, family: Family, device: DeviceSpec) -> list[tuple[IntArray, FloatArray]]:
    """Return places of rows in their file with the seconds of each."""
    if not len(rows):
        return []
    bench = Bench(device)
    return [(calls.rows, bench.seconds(calls)) for calls in family.calls(rows, device)]


def _reason(family: Family, rows: pl.DataFrame) -> pl.Expr:
    """Return the expression that names why a row has no prediction; null if it may have one."""
    reason = pl.lit(None, dtype=pl.String)
    for text, holds in reversed(family.reasons):
        reason = pl.when(holds).then(pl.lit(text)).otherwise(reason)
    for name in family.columns:
        reason = pl.when(pl.col(name).is_null()).then(pl.lit(f"no value of {name}")).otherwise(reason)
        if name in family.numbers and rows[name].dtype.is_numeric():
            reason = pl.when(pl.col(name) < 0).then(pl.lit(f"{name} below 0")).otherwise(reason)
    return reason


def _unpredicted(rows: pl.DataFrame, family: Family, reason: str) -> pl.DataFrame:
    rows = rows.with_columns(
        reason=pl.lit(reason), core=pl.lit(False), region=pl.lit(""), **{PREDICTED: pl.lit(None, dtype=pl.Float64)}
    )
    return _tidy(rows, family)


def _tidy(rows: pl.DataFrame, family: Family) -> pl.DataFrame:
    measured = pl.col(MEASURED).cast(pl.Float64) if MEASURED in rows.columns else pl.lit(None, dtype=pl.Float64)
    engine = pl.col(family.engine) if family.engine else pl.lit("")
    return rows.select(
        ROW,
        "id",
        pl.lit(family.kind).alias("kind"),
        pl.col("gpu").cast(pl.String),
        engine.cast(pl.String).fill_null("").alias("engine"),
        "region",
        pl.col("core").fill_null(value=False),
        PREDICTED,
        "reason",
        measured.alias(MEASURED),
    )
