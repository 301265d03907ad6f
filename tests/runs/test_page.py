"""The page of measured runs: every number and figure in one file."""

import re

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from gpusim.cli import app
from gpusim.report.runs_figures import _ticks
from gpusim.runs.distributions import LEVELS, measured_quantiles, quantiles
from gpusim.runs.layout import read_folder
from runs.test_runs import folder_of

REQUESTS = """index,arrival_s,prompt_tokens,output_tokens_requested,ok,ttft_s,e2e_s,tpot_s
0,0.0,300,5,1,0.02,0.05,0.0075
1,0.5,200,5,1,0.03,0.06,0.0075
2,1.0,300,5,0,,300,
"""


def with_requests(path):
    """Write a run whose requests were measured, the last of them failed, and one of which only means are known."""
    (path / "r.csv").write_text(REQUESTS)
    return folder_of(path, {"workload": {"kind": "general", "requests_file": "r.csv"}}, {"scored": False})


def test_the_page_holds_every_run(tmp_path):
    """Tables of all metrics and peers, a scatter plot of each metric, percentiles of the run with requests; nothing is fetched."""
    page = tmp_path / "page.html"
    answer = CliRunner().invoke(app, ["validate", "serving", str(with_requests(tmp_path)), "--html", str(page)])
    assert answer.exit_code == 0, answer.output
    text = page.read_text()
    assert text.count("<svg") == 2 + 3
    assert "<script" not in text
    assert "src=" not in text
    words = re.sub("<[^>]*>", " ", text)
    assert "token gap" not in words
    for expected in ("run0", "run1 (not scored)", "other %", "+50.0", "ttft p99", "time per output token", "p99.9"):
        assert expected in words


def test_a_page_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    """The folder of the page must be there."""
    target = tmp_path / "no" / "page.html"
    answer = CliRunner().invoke(app, ["validate", "serving", str(folder_of(tmp_path, {})), "--html", str(target)])
    assert answer.exit_code == 2
    assert "there is no folder" in str(answer.output) + str(answer.exception)


def test_percentiles_are_of_requests_that_did_not_fail(tmp_path):
    """They end where less than one request lies above."""
    seen, unseen = read_folder(with_requests(tmp_path))
    found = measured_quantiles(seen)
    assert max(found["e2e_s"]) < 0.06
    assert len(found["e2e_s"]) == sum(level <= 0.5 for level in LEVELS)
    assert measured_quantiles(unseen) == {}


def test_percentiles_are_even_in_the_logarithm_of_the_tail():
    """Of exponential times they lie on a straight line."""
    times = -np.log(1 - (np.arange(100_000) + 0.5) / 100_000)
    steps = np.diff(quantiles(pl.DataFrame({"e2e_s": times}))["e2e_s"])
    assert steps == pytest.approx(np.log(10) / 20, rel=0.01)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.014, 0.0171, [0.014, 0.015, 0.016, 0.017]), (0.4, 30, [0.5, 1, 2, 5, 10, 20]), (0.02, 150, [0.1, 1, 10, 100])],
)
def test_ticks_are_round(low, high, expected):
    """Even steps over a short range, decades over a long one."""
    assert _ticks(low, high) == pytest.approx(expected)
