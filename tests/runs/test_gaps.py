"""Gaps between tokens: predicted percentiles at the levels that were measured."""

import json

import pytest
from typer.testing import CliRunner

from gpusim.cli import app
from gpusim.runs.gaps import gaps
from gpusim.runs.layout import read_folder
from gpusim.runs.predictions import predict
from gpusim.runs.scores import mean_gaps
from runs.test_runs import folder_of, one

MEASURED = {"p49.7": 0.01, "p89.9": 0.02, "p98.0": 0.04, "p99.8": 0.5, "max": 1.0, "real_gap_share_of_events": 0.4}
LINE = [per_mille / 1000 for per_mille in range(1, 1000)]


def test_percentiles_are_taken_at_the_level_stated(tmp_path):
    """What is called p49.7 is held against that level; the largest gap and shares are left out."""
    found = gaps(one(tmp_path, measured={"token_gap_s": MEASURED}), LINE)
    assert [(gap.percentile, gap.measured_s, gap.predicted_s) for gap in found] == [
        ("p50", 0.01, 0.497),
        ("p90", 0.02, 0.899),
        ("p98", 0.04, 0.98),
        ("p99.8", 0.5, 0.998),
    ]
    assert found[0].error == pytest.approx(48.7)


@pytest.mark.parametrize("measured", [None, {}, {"token_gap_s": None}, {"token_gap_s": {"p50.0": None}}])
def test_without_measured_gaps_there_are_none(tmp_path, measured):
    """Most experiments have no times of tokens."""
    assert gaps(one(tmp_path, measured=measured), LINE) == []


def test_gaps_of_a_quiet_run_are_its_time_per_token(tmp_path):
    """One request at a time and equal steps: half of the gaps are shorter than the mean, and few are much longer."""
    found = predict(one(tmp_path), engine="none")
    assert found.gap_quantiles == sorted(found.gap_quantiles)
    assert found.gap_quantiles[499] == pytest.approx(found.metrics["itl_mean_s"], rel=0.1)


def test_gaps_stand_in_tables_page_and_json(tmp_path):
    """The mean is over scored runs."""
    measured = {"ttft_mean_s": 0.02, "token_gap_s": MEASURED}
    folder = folder_of(tmp_path, {"measured": measured}, {"measured": measured, "scored": False})
    run = CliRunner()
    page = tmp_path / "page.html"
    printed = run.invoke(app, ["validate", "serving", str(folder), "--html", str(page)]).output
    assert printed.count("gaps between tokens") == 2, "without jitter and with it"
    assert "token gap p98" in page.read_text()
    found = json.loads(run.invoke(app, ["validate", "serving", str(folder), "--json"]).stdout)["token_gaps"]
    assert set(found["runs"]) == {"run0", "run1"}
    assert found["mean"]["p50"] == pytest.approx(abs(found["runs"]["run0"][0]["error"]))
    predictions = [predict(experiment) for experiment in read_folder(folder)]
    assert mean_gaps(predictions) == found["mean"]
    assert mean_gaps(predictions, jitter=True) == found["with_jitter"]["mean"] != found["mean"]
