"""What served a run, in a few words."""

import pytest

from gpusim.results.setup import About, setup
from run_builders import uniform_run

NODES = [{"kind": "gpu", "name": "gpu", "count": 8, "device": {"name": "h100-sxm"}}, {"kind": "host", "name": "cpu"}]


def engine(*gpus, device="h100-sxm"):
    """Return what the summary says of an engine on the GPUs of these numbers."""
    return {"model": "m", "device": device, "gpus": [f"gpu{number}" for number in gpus]}


@pytest.mark.parametrize(
    ("scenario", "engines", "said"),
    [
        ({}, {"e": engine(0)}, "m on 1 of 8 × h100-sxm"),
        ({"serving": {"tensor_parallel_size": 2}}, {"e": engine(0, 1)}, "m, TP 2 on 2 of 8 × h100-sxm"),
        ({"serving": {"tensor_parallel_size": 8}}, {"e": engine(*range(8))}, "m, TP 8 on 8 × h100-sxm"),
        (
            {"serving": {"tensor_parallel_size": 2, "data_parallel_size": 2, "enable_expert_parallel": True}},
            {"e0": engine(0, 1), "e1": engine(2, 3)},
            "2 engines of m, TP 2, DP 2, EP 4 on 4 of 8 × h100-sxm",
        ),
        (
            {"engines": [{"name": "a", "serving": {"tensor_parallel_size": 4}}, {"name": "b"}]},
            {"a": engine(0, 1, 2, 3), "b": engine(4)},
            "m, TP 4 on 4 of 8 × h100-sxm; m on 1 of 8 × h100-sxm",
        ),
    ],
)
def test_it_names_model_split_and_gpus(scenario, engines, said):
    """How many of the machine's GPUs, where there are more; engines that are alike together."""
    assert setup({"topology": {"nodes": NODES}} | scenario, engines) == said


def test_runs_that_know_nothing_of_their_engines_say_nothing():
    """Logs without a machine behind them."""
    assert About.of(uniform_run(2, 2)) == About()
