"""A folder of measurements: every row predicted or with a reason; measured values only score; bad input is named."""

from __future__ import annotations

import json

import polars as pl
import pytest
from typer.testing import CliRunner

from gpusim.cli import app
from gpusim.silicon.layout import read_folder
from gpusim.silicon.predictions import predict_all
from measured import attention_rows, gemm_rows, write_folder


def validate(folder, *options):
    """Run the command; return what it printed."""
    result = CliRunner().invoke(app, ["validate", "silicon", str(folder), *map(str, options)])
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(folder, *options):
    """Run the command on something wrong; return the message."""
    result = CliRunner().invoke(app, ["validate", "silicon", str(folder), *map(str, options)])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    return result.stderr


def written(folder, path):
    """Return what ``--out`` holds."""
    validate(folder, "--out", path)
    return path.read_text()


@pytest.fixture
def rows():
    """Products and decodes with made-up times."""
    tables = {"gemm": gemm_rows(), "attention_decode": attention_rows(gpu="a100_sxm")}
    return {
        name: table.with_columns(latency_us=pl.int_range(1, len(table) + 1) * 1.5) for name, table in tables.items()
    }


def test_measured_times_change_no_prediction(tmp_path, rows):
    """A copy of the folder without them, or with others, gives the same bytes."""
    bare = {name: table.drop("latency_us") for name, table in rows.items()}
    other = {name: table.with_columns(latency_us=pl.lit(7.0)) for name, table in rows.items()}
    outputs = {
        written(write_folder(tmp_path / str(number), **tables), tmp_path / f"{number}.csv")
        for number, tables in enumerate((rows, bare, other))
    }
    assert len(outputs) == 1


def test_order_and_ids_change_nothing(tmp_path, rows):
    """Rows in another order, with other ids, have the same times."""
    shuffled = {name: table.sample(fraction=1.0, shuffle=True, seed=3) for name, table in rows.items()}
    renamed = {
        name: table.with_columns(id="x" + pl.col("id").str.reverse(), old=pl.col("id"))
        for name, table in shuffled.items()
    }
    written(write_folder(tmp_path / "a", **rows), tmp_path / "a.csv")
    written(write_folder(tmp_path / "b", **renamed), tmp_path / "b.csv")
    old = pl.concat([table.select("id", "old") for table in renamed.values()])
    again = pl.read_csv(tmp_path / "b.csv").join(old, on="id").select(id="old", latency_us="latency_us")
    assert again.sort("id").equals(pl.read_csv(tmp_path / "a.csv").sort("id"))


def test_scores_add_up(tmp_path, rows):
    """Rows by engine and by region are all rows; a perfect prediction has no error."""
    folder = write_folder(tmp_path / "a", **rows)
    summary = json.loads(validate(folder, "--json"))
    total = sum(map(len, rows.values()))
    assert summary["rows"] == summary["predicted"] == total
    for grouping in ("by_kind_gpu", "by_kind_gpu_engine", "by_kind_gpu_region"):
        assert sum(row["all_rows"] for row in summary[grouping]) == total
    predicted = predict_all(read_folder(folder)).select("id", "predicted_us")
    exact = {
        name: table.join(predicted, on="id").drop("latency_us").rename({"predicted_us": "latency_us"})
        for name, table in rows.items()
    }
    again = json.loads(validate(write_folder(tmp_path / "b", **exact), "--json"))
    assert all(row["all_mape"] == pytest.approx(0, abs=1e-12) for row in again["by_kind_gpu"])


def test_rows_that_cannot_be_predicted_say_why(tmp_path):
    """An unknown GPU, a missing and an impossible value; the others have their times."""
    table = gemm_rows().with_columns(
        gpu=pl.when(pl.col("m") == 1).then(pl.lit("abacus")).otherwise("gpu"),
        n=pl.when(pl.col("m") == 16).then(None).otherwise("n"),
        k=pl.when(pl.col("m") == 128).then(-1).otherwise("k"),
    )
    folder = write_folder(tmp_path / "a", gemm=table)
    summary = json.loads(validate(folder, "--json", "--out", tmp_path / "out.csv"))
    reasons = {row["reason"]: row["rows"] for row in summary["without_prediction"]}
    assert reasons == {
        "no device 'abacus' in the catalog; name a file with --device abacus=FILE": 12,
        "no value of n": 12,
        "k below 0": 12,
    }
    assert len(pl.read_csv(tmp_path / "out.csv")) == summary["predicted"] == 12


def test_a_device_can_be_named(tmp_path):
    """``--device`` says what a table's GPU is; names of the catalog are found without."""
    rows = gemm_rows(gpu="abacus")
    folder = write_folder(tmp_path / "a", gemm=rows)
    validate(folder, "--device", "abacus=h100-sxm", "--out", tmp_path / "a.csv")
    other = write_folder(tmp_path / "b", gemm=rows.with_columns(gpu=pl.lit("h100_sxm")))
    validate(other, "--out", tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    assert "nosuch" in refused(folder, "--device", "abacus=nosuch")
    assert "GPU=DEVICE" in refused(folder, "--device", "abacus")


def test_bad_folders_are_named(tmp_path):
    """No folder, no known table, no column, words for numbers, no table at all, nowhere to write."""
    assert "no such folder" in refused(tmp_path / "nothing")
    assert "none of the tables" in refused(write_folder(tmp_path / "a"))
    assert "no column n" in refused(write_folder(tmp_path / "b", gemm=gemm_rows().drop("n")))
    words = gemm_rows().with_columns(m=pl.lit("many"))
    assert "column m holds words" in refused(write_folder(tmp_path / "c", gemm=words))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "gemm.csv.gz").write_bytes(b"\x1f\x8bbroken")
    assert "cannot be read as a table" in refused(tmp_path / "d")
    good = write_folder(tmp_path / "e", gemm=gemm_rows())
    assert "there is no folder" in refused(good, "--out", tmp_path / "no" / "out.csv")


def test_the_page_has_every_number(tmp_path, rows):
    """One file: scatter plots as SVG, tables, nothing fetched from anywhere."""
    page = tmp_path / "page.html"
    validate(write_folder(tmp_path / "a", **rows), "--html", page)
    text = page.read_text()
    assert text.count("<svg") == 2
    assert "h100_sxm" in text
    assert "<script" not in text
    assert "src=" not in text
