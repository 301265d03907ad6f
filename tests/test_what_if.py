"""`what_if:` scales what is achieved by exactly its factor, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import build_plan, build_simulation, token_ticks
from gpusim.results.summary import scenario_hash
from gpusim.spec.what_if import FACTORS, RATES
from gpusim.sweeps import sweep

IDEAL = {"efficiency": "ideal", "detail": "step", "workload__arrivals": {"kind": "closed", "concurrency": 1}}
TWO = {"topology": "dgx-a100-80gb", "serving__tensor_parallel_size": 2, "serving__engine": "vllm"}


def itl_mean_s(**changes):
    """Return the mean gap of a scenario."""
    return build_simulation(**changes).run().itl.mean


def what_if(**factors):
    """Return the keyword of `build_simulation` that states *factors*."""
    return {f"what_if__{name}": value for name, value in factors.items()}


def faster(factor, names=FACTORS):
    """Return factors that make everything in *names* so many times faster."""
    return what_if(**{name: factor if name in RATES else 1 / factor for name in names})


@pytest.mark.parametrize("factor", [0.5, 1.1, 2.0])
def test_a_decode_that_reads_takes_as_much_less_as_memory_is_faster(factor):
    """One sequence at ideal efficiency only reads weights and KV: its gap is bytes / bandwidth."""
    changed = itl_mean_s(**IDEAL, **what_if(hbm_bandwidth=factor))
    assert changed == pytest.approx(itl_mean_s(**IDEAL) / factor, rel=1e-4)  # the clock rounds to 1 ps
    assert itl_mean_s(**IDEAL, **what_if(flops=factor)) == itl_mean_s(**IDEAL)


@pytest.mark.parametrize("detail", ["kernel", "step"])
@pytest.mark.parametrize("machine", [{}, TWO, {"efficiency": "ideal", **TWO}], ids=["one", "two", "ideal"])
def test_everything_faster_is_the_same_in_less_time(machine, detail):
    """All rates doubled and all times halved: every token of a closed loop after half the time."""
    load = {"workload__arrivals": {"kind": "closed", "concurrency": 3}, "detail": detail, **machine}
    stated, changed = (token_ticks(run_of(**load, **factors)) for factors in ({}, faster(2.0)))
    assert stated.keys() == changed.keys()
    for key, ticks in stated.items():
        assert changed[key] == pytest.approx([tick / 2 for tick in ticks], rel=1e-5)


def run_of(**changes):
    """Return a simulation that has run."""
    simulation = build_simulation(**changes)
    simulation.run()
    return simulation


@settings(max_examples=12)
@given(name=st.sampled_from(FACTORS), factor=st.floats(1.01, 3.0), tp=st.sampled_from([1, 2, 4]))
def test_faster_is_never_slower_at_either_detail(name, factor, tp):
    """One factor alone; kernel and step detail agree to the bit."""
    load = {**TWO, "serving__tensor_parallel_size": tp, "workload__arrivals": {"kind": "closed", "concurrency": 4}}
    stated = itl_mean_s(detail="step", **load)
    factors = faster(factor, [name])
    step, kernel = (run_of(detail=detail, **load, **factors) for detail in ("step", "kernel"))
    assert token_ticks(step) == token_ticks(kernel)
    assert itl_mean_s(detail="step", **load, **factors) <= stated * (1 + 1e-9)


def test_links_and_their_latency_matter_where_ranks_meet():
    """Each of the factors on links shortens the gap of two ranks; neither touches a single GPU."""
    load = {**TWO, "detail": "step"}
    for name in ("link_bandwidth", "link_latency"):
        assert itl_mean_s(**load, **faster(2.0, [name])) < itl_mean_s(**load)
        assert itl_mean_s(detail="step", **faster(2.0, [name])) == itl_mean_s(detail="step")


def test_the_host_takes_its_factor():
    """The step of a profile with host time is longer by the added host time, the API's time likewise."""
    profile = {"name": "ours", "step": "1 ms", "request": "2 ms", "token": "3 ms"}
    load = {"serving__engine": profile, "detail": "step", "workload__arrivals": {"kind": "closed", "concurrency": 1}}
    stated, changed = (build_simulation(**load, **factors).run() for factors in ({}, what_if(host=2.0)))
    assert changed.itl.mean - stated.itl.mean == pytest.approx(1e-3, rel=1e-6)
    assert changed.ttft.mean - stated.ttft.mean == pytest.approx(6e-3, rel=1e-6)


def test_factors_of_one_change_no_byte():
    """Stated or not, a factor of 1 is neither in the saved scenario nor felt."""
    stated, neutral = build_plan(), build_plan(**what_if(**dict.fromkeys(FACTORS, 1.0)))
    assert scenario_hash(stated.resolved()) == scenario_hash(neutral.resolved())
    assert token_ticks(run_of()) == token_ticks(run_of(**what_if(hbm_bandwidth=1.0)))


def test_a_saved_scenario_runs_again_to_the_same_ticks():
    """The resolved scenario holds the machine as stated and the factors, applied once."""
    simulation = run_of(**TWO, **faster(1.3))
    resolved = simulation.plan.resolved()
    assert resolved["what_if"]["hbm_bandwidth"] == 1.3
    again = run_of(**{key: value for key, value in resolved.items() if key != "schema"})
    assert again.plan.resolved() == resolved
    assert token_ticks(again) == token_ticks(simulation)


def test_a_sweep_goes_over_factors():
    """`what_if.hbm_bandwidth: [1, 1.1]` are two points, the second faster."""
    slow, fast = sweep(build_plan(detail="step").scenario, {"what_if.hbm_bandwidth": [1, 1.1]})
    assert fast.result.itl.mean < slow.result.itl.mean
