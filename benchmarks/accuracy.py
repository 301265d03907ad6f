"""Write docs/accuracy.md: how well kernels and collectives are predicted, and where not.

    python benchmarks/accuracy.py SILICON_FOLDER [--out docs/accuracy.md]

Everything is measured here and now on the folder: errors on core rows of shapes kept out of the fits, on all rows, with each GPU left
out, and of a plain law with two numbers; then the regions that are predicted worst. The reasons are written by hand (`GAPS`).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
from known_gaps import GAPS, Gap
from plain_law import plain_error

from gpusim.calibrate.fit import Sample, samples
from gpusim.calibrate.parameters import physics_parameters
from gpusim.silicon.layout import Measurements, read_folder
from gpusim.silicon.machines import device_name
from gpusim.silicon.predictions import predict
from gpusim.silicon.scores import scores
from gpusim.silicon.split import held_out
from gpusim.spec.device import DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.names import read

POOR = 0.15
"""Regions with a larger mean error are listed."""
FEWEST = 30
"""Rows in a region that is listed."""

HEAD = """# Accuracy: measured kernels and collectives

Written by `make accuracy` from measurements of four GPUs that are not part of gpusim ([laws](laws.md) names their
sources). Do not edit: prose stands in `benchmarks/accuracy.py` and `benchmarks/known_gaps.py`.

Every row is timed by the simulator's own kernel path on an idle GPU (`gpusim validate silicon`). An error is |predicted / measured −
1|; MAPE is its mean, p90 its 90th percentile. *Core* rows are those that the data's own README calls so. *Kept out*: only rows of shapes that no fit
has read (a quarter of the shapes, chosen by a checksum of the shape). *Left out*: all core rows, the GPU taken for one nobody
measured, so that its laws come from its data sheet and the other GPUs ([the rule](default-laws.md)). *Plain*: `t0 + bytes / rate`, two numbers
fitted for each engine and stored type on the same rows, on the rows kept out. Whole serving runs have [a page of their own](serving-accuracy.md).
"""


def with_split(measured: Measurements) -> pl.Series:
    """Say of each row of a table whether it was kept out of the fits."""
    return held_out(measured.table.with_columns(pl.col(measured.family.columns).fill_null(0)), measured.family.shape)


def predicted(folder: list[Measurements], *, left_out: bool) -> pl.DataFrame:
    """Return the predictions of all tables, with a column kept_out."""
    parts = [predict(each, left_out=left_out).with_columns(kept_out=with_split(each)) for each in folder]
    return pl.concat(parts)


def plain_scores(folder: list[Measurements]) -> pl.DataFrame:
    """Return the error of the plain law by kind and gpu, on core rows kept out."""
    rows = []
    for measured in folder:
        for (gpu,), table in measured.table.group_by("gpu"):
            name = device_name(str(gpu))
            if name is None:
                continue
            device = validate(DeviceSpec, read("device", name))
            by_law: dict[tuple[str, ...], list[Sample]] = defaultdict(list)
            for sample in samples(measured.family, table.drop_nulls(measured.family.columns), device):
                by_law[sample.calls.law].append(sample)
            errors = np.concatenate([np.empty(0), *(plain_error(each) for each in by_law.values())])
            if len(errors):
                rows.append({"kind": measured.family.kind, "gpu": str(gpu), "plain": float(np.nanmean(errors))})
    return pl.DataFrame(rows)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/accuracy.md"))
    options = parser.parse_args()
    folder = read_folder(options.folder)
    own, left = predicted(folder, left_out=False), predicted(folder, left_out=True)
    text = [
        HEAD,
        "## By kind and GPU\n",
        _overview(own, left, plain_scores(folder)),
        "## By engine\n",
        _by_engine(own),
        "## How many numbers\n",
        _parameters(),
        "## Where it fails, and why\n",
        _failures(own),
    ]
    options.out.write_text("\n".join(text), encoding="utf-8")
    print(f"wrote {options.out}")


def _overview(own: pl.DataFrame, left: pl.DataFrame, plain: pl.DataFrame) -> str:
    keys = ["kind", "gpu"]
    table = (
        scores(own.filter(pl.col("kept_out")), *keys)
        .join(scores(own, *keys).select(*keys, "all_rows", "all_mape", "all_p90"), on=keys, suffix="_everywhere")
        .join(scores(left, *keys).select(*keys, left="core_mape"), on=keys, how="left")
        .join(plain, on=keys, how="left")
        .sort(keys)
    )
    columns = {
        "kind": "kind",
        "gpu": "GPU",
        "core_rows": "core rows kept out",
        "core_mape": "MAPE %",
        "core_p90": "p90 %",
        "plain": "plain MAPE %",
        "left": "left out MAPE %",
        "all_rows_everywhere": "all rows",
        "all_mape_everywhere": "MAPE %",
        "all_p90_everywhere": "p90 %",
    }
    return markdown(table, columns)


def _by_engine(own: pl.DataFrame) -> str:
    keys = ["kind", "gpu", "engine"]
    table = scores(own.filter(pl.col("kept_out")), *keys).filter(pl.col("engine") != "")
    columns = {"kind": "kind", "gpu": "GPU", "engine": "engine", "core_rows": "core rows kept out"}
    return markdown(table, {**columns, "core_mape": "MAPE %", "core_p90": "p90 %", "core_bias": "bias %"})


def _parameters() -> str:
    rows = []
    for name in ("a100-sxm-80gb", "h100-sxm", "b200-sxm", "rtx-pro-6000-server"):
        laws = validate(DeviceSpec, read("device", name)).laws
        assert laws is not None
        fitted = [tuple(law.split(".")) for law in laws.fits]
        own = sum(fit.parameters for fit in laws.fits.values())
        physics = len({parameter for law in fitted for parameter in physics_parameters(law)})
        rows.append({"device": name, "laws": len(fitted), "own": own, "physics": physics})
    return markdown(
        pl.DataFrame(rows),
        {"device": "device", "laws": "laws", "own": "numbers of kernels", "physics": "numbers of the device"},
    )


def poor_regions(rows: pl.DataFrame) -> pl.DataFrame:
    """Return kind, gpu, engine, region with at least `FEWEST` rows and a mean error above `POOR`, worst first."""
    table = scores(rows, "kind", "gpu", "engine", "region")
    return table.filter(pl.col("all_rows") >= FEWEST, pl.col("all_mape") > POOR).sort("all_mape", descending=True)


def gap_of(row: dict[str, object]) -> Gap | None:
    """Return the known gap that explains a poor region."""
    return next((gap for gap in GAPS if gap.covers(row)), None)


def _failures(own: pl.DataFrame) -> str:
    rows = []
    for row in poor_regions(own).iter_rows(named=True):
        gap = gap_of(row)
        rows.append({**row, "why": gap.name if gap else ""})
    columns = {
        "kind": "kind",
        "gpu": "GPU",
        "engine": "engine",
        "region": "region",
        "all_rows": "rows",
        "all_mape": "MAPE %",
    }
    text = markdown(pl.DataFrame(rows), {**columns, "all_bias": "bias %", "why": "why"}) if rows else ""
    notes = "\n".join(f"- **{gap.name}**: {gap.why}" for gap in GAPS)
    return (
        f"Regions of at least {FEWEST} rows (core or not) whose mean error is above {100 * POOR:.0f} %; `tests/silicon/test_gaps.py` asserts the "
        f"known gaps, so that closing one is noticed.\n\n{text}\n{notes}\n"
    )


def markdown(table: pl.DataFrame, columns: dict[str, str]) -> str:
    """Return *columns* of *table* under their titles; fractions in per cent."""
    words = {key for key in columns if table[key].dtype == pl.String}
    lines = [" | ".join(columns.values()), " | ".join("---" if key in words else "--:" for key in columns)]
    lines += [" | ".join(_cell(row[key]) for key in columns) for row in table.iter_rows(named=True)]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
