"""What is known to be worth a warning before a run."""

import pytest

from builders import build_plan
from gpusim.caveats import long_contexts, long_requests
from gpusim.simulation import Simulation

LENGTHS = {"prompt_tokens": {"kind": "uniform", "low": 10, "high": 60}, "output_tokens": {"kind": "fixed", "value": 6}}


def engines(*serving):
    """Return two engines of the tiny model on a machine of two GPUs, each with these keys of `serving`."""
    return [{"name": f"e{i}", "gpus": [f"gpu{i}"], "serving": each} for i, each in enumerate(serving)]


def test_requests_are_counted_that_a_run_rejects():
    """As many as a run rejects for their length, of the workload that its engines share or have."""
    plan = build_plan(
        serving__max_model_len=50, workload__num_requests=40, **{f"workload__{k}": v for k, v in LENGTHS.items()}
    )
    rejected = Simulation(plan).run().metrics.counts.rejected
    assert list(long_requests(plan)) == [
        f"engine: {rejected} of 40 requests will be rejected: prompt and output are longer than max_model_len = 50"
    ]


@pytest.mark.parametrize("arrivals", [{"kind": "poisson", "rate": "100 /s"}, {"kind": "closed", "concurrency": 2}])
@pytest.mark.parametrize("turns", [3, 4, 5, 9])
def test_turns_after_a_long_one_are_counted_apart(turns, arrivals):
    """A run rejects them too, not for their length, though they are longer still: both numbers are those of the run."""
    plan = build_plan(
        serving__max_model_len=150,
        workload__arrivals=arrivals,
        workload__sessions={"turns": {"kind": "fixed", "value": turns}},
        workload__num_requests=31,
    )
    reasons = Simulation(plan).run().record.requests.rejected_reasons()
    too_long = "prompt and output are longer than max_model_len = 150"
    expected = []
    if turns > 3:
        expected = [f"engine: {reasons[too_long]} of 31 requests will be rejected: {too_long}"]
    if turns > 4:
        after = reasons["the turn before it was rejected"]
        expected = [f"{expected[0]}; and {after} turns after them"]
    assert list(long_requests(plan)) == expected


def test_of_engines_that_share_requests_the_longest_counts():
    """Which engine gets a request is not known before; one that some engine takes may be served."""
    shared = {"topology": "dgx-a100-80gb", **{f"workload__{k}": v for k, v in LENGTHS.items()}}
    assert not list(long_requests(build_plan(engines=engines({"max_model_len": 50}, {}), **shared)))
    (text,) = long_requests(build_plan(engines=engines({"max_model_len": 30}, {"max_model_len": 50}), **shared))
    assert text.startswith("e0, e1: ")
    assert text.endswith("max_model_len = 50")


def test_each_engine_is_named_whose_model_is_taken_too_far():
    """A context as long as the model's is no news."""
    plan = build_plan(topology="dgx-a100-80gb", engines=engines({"max_model_len": 2048}, {"max_model_len": 2049}))
    (text,) = long_contexts(plan.engines)
    assert text.startswith("e1: max_model_len = 2049 is beyond the 2048 tokens that tiny was trained for")
