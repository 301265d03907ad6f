"""Fitting: what was put into made-up measurements comes out again; rows kept out are kept out; files are good."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from gpusim.calibrate.fit import with_value
from gpusim.cli import app
from gpusim.runtime.default_laws import laws_of
from gpusim.silicon.bench import Bench
from gpusim.silicon.gemm import GEMM
from gpusim.silicon.split import held_out, thinned
from gpusim.spec.device import DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.names import read
from machines import catalog_device
from measured import attention_rows, gemm_rows, write_folder

TRUTH = {"t0": 7e-6, "t_split_k": 1e-6}


def measured_gemm():
    """Return products as an H100 with other launch times and rates would take."""
    device, table = catalog_device("h100-sxm"), gemm_rows().with_row_index("row")
    laws = device.laws
    for name, value in TRUTH.items():
        laws = with_value(laws, ("engines", "vllm", "gemm", "bf16", name), value)
    (calls,) = GEMM.calls(table, device)
    times = np.zeros(len(table))
    times[calls.rows] = Bench(device, laws).seconds(calls) * 1e6
    return table.with_columns(latency_us=times).drop("row")


def calibrate(*arguments):
    return CliRunner().invoke(app, ["calibrate", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path):
    """A folder of made-up measurements."""
    return write_folder(tmp_path / "data", gemm=measured_gemm())


def test_what_was_put_in_comes_out(folder, tmp_path):
    """The error falls to nothing, on rows kept out too, and the device file says so and is read again."""
    out, rows = tmp_path / "mine.yaml", tmp_path / "rows.csv"
    result = calibrate("h100-sxm", folder, "--out", out, "--rows", rows, "--source", "made up", "--json")
    assert result.exit_code == 0, result.output
    device = validate(DeviceSpec, read("device", str(out)))
    law = laws_of(device).gemm["bf16"]
    assert law.t0 == pytest.approx(TRUTH["t0"], rel=0.05)
    fit = device.laws.fits["engines.vllm.gemm.bf16"]
    assert fit.mape < 0.01
    assert fit.held_out_mape < 0.02
    assert device.laws.fitted_on.startswith("made up; laws that it does not tell of: ")
    assert (
        device.laws.fits["engines.vllm.attention.bf16"]
        == catalog_device("h100-sxm").laws.fits["engines.vllm.attention.bf16"]
    )
    summary = json.loads(result.stdout)
    assert summary["laws"]["engines.vllm.gemm.bf16"]["mape"] == fit.mape
    assert summary["parameters_total"] == sum(summary["parameters"].values()) > 0
    used = pl.read_csv(rows)
    core = measured_gemm().filter(pl.col("m") <= 256)
    assert sorted(used["id"]) == sorted(core["id"])
    assert (used["use"] == "held_out").sum() == fit.held_out_rows
    assert (used["use"] == "fit").sum() == fit.rows


def test_the_rest_of_the_file_stays(folder, tmp_path):
    """All but the laws is as it was, comments too; no id of a row is in the file."""
    out = tmp_path / "mine.yaml"
    calibrate("h100-sxm", folder, "--out", out)
    before = catalog_device("h100-sxm").model_dump(exclude={"laws"})
    assert validate(DeviceSpec, read("device", str(out))).model_dump(exclude={"laws"}) == before
    assert "# sheet" in out.read_text()
    assert "gemm-h100" not in out.read_text()


def test_order_and_ids_change_no_law(folder, tmp_path):
    """Shuffled rows with other ids give the same file, byte for byte."""
    table = pl.read_csv(folder / "gemm.csv").sample(fraction=1.0, shuffle=True, seed=1)
    other = write_folder(tmp_path / "other", gemm=table.with_columns(id=pl.int_range(len(table)).cast(pl.String)))
    calibrate("h100-sxm", folder, "--out", tmp_path / "a.yaml", "--source", "s")
    calibrate("h100-sxm", other, "--out", tmp_path / "b.yaml", "--source", "s")
    assert (tmp_path / "a.yaml").read_text() == (tmp_path / "b.yaml").read_text()


def test_a_device_without_laws_gets_them(folder, tmp_path):
    """An unmeasured device begins with its donor's laws; only its own rows are read."""
    table = pl.read_csv(folder / "gemm.csv")
    both = pl.concat([table, table.with_columns(gpu=pl.lit("l40s"), id="other-" + pl.col("id"))])
    write_folder(folder, gemm=both)
    result = calibrate("l40s", folder, "--out", tmp_path / "l40s.yaml", "--rows", tmp_path / "rows.csv")
    assert result.exit_code == 0, result.output
    assert pl.read_csv(tmp_path / "rows.csv")["id"].str.starts_with("other-").all()
    laws = validate(DeviceSpec, read("device", str(tmp_path / "l40s.yaml"))).laws
    assert set(laws.fits) == {"engines.vllm.gemm.bf16"}
    assert "rtx-pro-6000-server by the default rule" in laws.fitted_on


def test_refusals(folder, tmp_path):
    """Nothing of the device, an existing file, no such device, nowhere to write: one error each, nothing written."""
    for arguments, message in (
        (("b200-sxm", folder), "no measured core row of b200-sxm"),
        (("b200", folder), "unknown device"),
        (("h100-sxm", folder, "--rows", tmp_path / "no" / "rows.csv"), "there is no folder"),
    ):
        result = calibrate(*arguments, "--out", tmp_path / "x.yaml")
        assert result.exit_code == 2
        assert message in result.stderr
        assert not (tmp_path / "x.yaml").exists()
    (tmp_path / "x.yaml").write_text("mine")
    result = calibrate("h100-sxm", folder, "--out", tmp_path / "x.yaml")
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert (tmp_path / "x.yaml").read_text() == "mine"


def test_shapes_are_kept_out_whole():
    """All rows of a shape go together; about a quarter of the shapes; the order of rows does not matter."""
    table = pl.DataFrame({"n": np.repeat(np.arange(400), 3), "m": np.tile([1, 2, 3], 400)})
    kept = table.with_columns(out=held_out(table, ("n",)))
    assert kept.group_by("n").agg(pl.col("out").n_unique())["out"].max() == 1
    assert 0.18 < kept["out"].mean() < 0.32
    mixed = table.sample(fraction=1.0, shuffle=True, seed=2)
    assert mixed.with_columns(out=held_out(mixed, ("n",))).sort("n", "m").equals(kept)
    few, again = (thinned(rows, ("n", "m"), 100) for rows in (table, mixed))
    assert len(few) == 100
    assert few.equals(again)


def test_decodes_are_fitted_too(tmp_path):
    """Two tables are fitted together, each law on its own rows."""
    times = pl.Series("latency_us", np.geomspace(10, 1000, 27))
    folder = write_folder(
        tmp_path / "data", gemm=measured_gemm(), attention_decode=attention_rows().with_columns(times)
    )
    result = calibrate("h100-sxm", folder, "--out", tmp_path / "x.yaml", "--json")
    assert set(json.loads(result.stdout)["laws"]) == {"engines.vllm.gemm.bf16", "engines.vllm.attention.bf16"}
