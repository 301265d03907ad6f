"""Tables of the page of serving accuracy: signs, brackets, peers that are better, groups left out of a fit."""

import pytest
import serving_tables as tables

from gpusim.runs.predictions import Prediction
from runs.test_runs import one

FIT = {
    "values_s": {"step": 0.0, "request + token": 0.0078},
    "ranges_s": {"step": (0.0, 0.0001), "request + token": (0.007, 0.008)},
    "runs": ["one", "two"],
    "in_sample": {"ttft_mean_s": 0.04, "itl_mean_s": 0.02, "e2e_mean_s": 0.021},
    "left_out": {
        "family": {
            "folds": {"Mixtral": {"ttft_mean_s": 0.2, "itl_mean_s": 0.05, "e2e_mean_s": 0.06}},
            "mean_of_runs": {"ttft_mean_s": 0.1, "itl_mean_s": 0.03, "e2e_mean_s": 0.03},
            "median_of_folds": {"ttft_mean_s": 0.1, "itl_mean_s": 0.03, "e2e_mean_s": 0.03},
        }
    },
}


@pytest.fixture
def predicted(tmp_path):
    """Return a run whose time per token comes out a tenth too short, with a peer who is nearer, and TTFT right."""
    change = {
        "measured": {"ttft_mean_s": 0.02, "itl_mean_s": 0.01},
        "peers": {"other": {"predicted": {"itl_mean_s": 0.0099}}},
    }
    return Prediction(one(tmp_path, **change), {"ttft_mean_s": 0.02, "itl_mean_s": 0.009})


def test_errors_are_signed(predicted):
    """A row of the table of runs has the error in per cent, and a dash where nothing was measured."""
    assert tables.errors([predicted])["run0"]["itl mean"] == pytest.approx(-0.1)
    assert "| run0 | 0 | +0.0 | – | – | -10.0 | – | – | – | -10.0 |" in tables.by_run([predicted], [predicted])


def test_a_better_peer_is_named(predicted):
    """The page says where others are nearer, and in which metric."""
    assert tables.better_peers([predicted]) == ["other (1 runs): itl mean"]


def test_groups_left_out_of_a_fit():
    """What `gpusim calibrate --engine --json` prints becomes a row for each group, and the range of each value."""
    text = tables.folds(FIT)
    assert "| family: Mixtral | 20.0 | 5.0 | 6.0 |" in text
    assert "request + token 7.80 (7.00 to 8.00) ms" in text
