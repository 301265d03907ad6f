"""Engine profiles: host time is added to steps, graphs pad them, the API delays what clients see; alike at both details."""

import numpy as np
import pytest

from builders import build_lowering, build_model, build_simulation, token_ticks
from gpusim.core.clock import ticks
from gpusim.plan import load
from gpusim.simulation import simulate
from gpusim.spec.document import validate
from gpusim.spec.engine_profile import EngineProfile
from gpusim.spec.names import names, read
from gpusim.spec.sampling import SamplingSpec

PROFILE = {"schema": 1, "name": "slow", "step": "300 us", "sequence": "7 us", "candidates": "40 us"}
GRAPHS = {"schema": 1, "name": "graphs", "graph_sizes": [4, 16, 64]}


def run(engine, detail="step", **changes):
    """Run the tiny scenario with an engine profile; return the simulation and its result."""
    simulation = build_simulation(detail=detail, serving__engine=engine, **changes)
    return simulation, simulation.run()


@pytest.mark.parametrize("top_p", [1.0, 0.9])
@pytest.mark.parametrize("engine", [PROFILE, GRAPHS, "vllm"])
def test_both_details_agree(engine, top_p):
    """Token times are the same to the tick, with host time, graphs and several ranks."""
    changes = {"serving__sampling": {"top_p": top_p}, "topology": "dgx-a100-80gb", "serving__tensor_parallel_size": 2}
    (by_step, one), (by_kernel, other) = (run(engine, detail, **changes) for detail in ("step", "kernel"))
    assert token_ticks(by_step) == token_ticks(by_kernel)
    assert one.requests.equals(other.requests)


def test_host_time_is_added_to_every_step():
    """A step takes as much longer as the host for the step, for each sequence that gets a token, and for sorting."""
    alone = {"workload__num_requests": 1, "serving__sampling": {"top_p": 0.9}}
    plain, slow = (run(engine, **alone)[1].steps["end_ps"].to_numpy() for engine in ("none", PROFILE))
    assert np.diff(slow) - np.diff(plain) == pytest.approx(ticks(300e-6 + 7e-6 + 40e-6), abs=2)


def test_host_time_is_launch_and_host_in_the_attribution():
    """Nothing but the category of launches and the host grows."""
    plain, slow = (run(engine, workload__num_requests=1)[1].explain()["seconds"] for engine in ("none", PROFILE))
    grown = {name: slow[name] - plain[name] for name in plain}
    assert grown.pop("launch") == pytest.approx(6 * 307e-6, rel=1e-6)
    assert all(value == pytest.approx(0, abs=1e-10) for value in grown.values())


def test_ideal_hardware_waits_for_no_host():
    """Peak numbers are those of the GPU."""
    assert token_ticks(run(PROFILE, efficiency="ideal")[0]) == token_ticks(run("none", efficiency="ideal")[0])


def test_the_api_delays_what_clients_see():
    """TTFT and E2E grow by both ways together; gaps, steps and queueing do not."""
    api = {"schema": 1, "name": "api", "request": "6 ms", "token": "2 ms"}
    plain, served = run("none")[1], run(api)[1]
    for name in ("ttft", "e2e"):
        assert getattr(served, name).mean == pytest.approx(getattr(plain, name).mean + 8e-3, abs=1e-9)
    assert served.itl.mean == plain.itl.mean
    assert served.steps.equals(plain.steps)


def test_a_client_of_a_closed_loop_waits_for_the_api():
    """It sends its next request when it has the last token, so the engine idles meanwhile."""
    closed = {"workload__arrivals": {"kind": "closed", "concurrency": 1}, "workload__num_requests": 5}
    api = {"schema": 1, "name": "api", "request": "6 ms", "token": "2 ms"}
    plain, served = (run(engine, **closed)[1].requests["arrival_s"].to_numpy() for engine in ("none", api))
    assert served - plain == pytest.approx(8e-3 * np.arange(5), abs=1e-9)


def test_steps_are_padded_to_the_next_graph():
    """Kernels have the rows of the smallest graph that holds the step, and no more rows than tokens beyond the largest."""
    lowering = build_lowering(build_model(layers=1), graph_sizes=(4, 16, 64))
    tokens = np.array([1, 4, 5, 16, 17, 64, 65, 200])
    (qkv,) = [kernel for _, kernel in lowering.token_kernels(tokens) if kernel.name == "qkv"]
    assert qkv.m.tolist() == [4, 4, 16, 16, 64, 64, 65, 200]


def test_padding_costs_time_but_no_attention():
    """A padded step takes at least as long as one that is not."""
    padded, plain = (run(engine, workload__num_requests=3)[1].steps["end_ps"][-1] for engine in (GRAPHS, "none"))
    assert padded >= plain


def test_only_models_whose_sampling_sorts_wait_for_candidates():
    """Greedy sampling sorts nothing."""
    greedy = {"serving__sampling": {"temperature": 0.0}}
    other = PROFILE | {"candidates": "0 s"}
    assert token_ticks(run(PROFILE, **greedy)[0]) == token_ticks(run(other, **greedy)[0])


def test_graphs_end_at_two_tokens_a_sequence():
    """As vLLM captures them."""
    assert EngineProfile.model_validate(GRAPHS).sizes_up_to(8) == (4, 16)


def test_profiles_of_the_catalog_are_valid():
    """Every profile is named as its file and says where its values come from."""
    for name in names("engine"):
        profile = validate(EngineProfile, read("engine", name))
        assert profile.name == name
        assert profile.source


def test_lowering_without_a_profile_has_no_host():
    """Kernels alone, as before."""
    kernels = [kernel.name for _, kernel in build_lowering(sampling=SamplingSpec(top_p=0.9)).token_kernels(4)]
    assert "host" not in kernels


def test_a_resolved_scenario_holds_its_profile(tmp_path):
    """What a run writes needs no catalog and runs again to the same times."""
    simulation, result = run("vllm")
    result.save(tmp_path / "run")
    again = simulate(load(tmp_path / "run" / "scenario.yaml"))
    assert again.requests.equals(result.requests)
    assert simulation.plan.resolved()["serving"]["engine"]["name"] == "vllm"
