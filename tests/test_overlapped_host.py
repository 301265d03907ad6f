"""Host time beside the GPU: a step takes the longer of the two, or both where no steps are in flight."""

import numpy as np
import pytest

from builders import build_simulation, token_ticks
from gpusim.core.clock import TICKS_PER_S
from gpusim.core.probe import RecordingProbe

DETAILS = pytest.mark.parametrize("detail", ["step", "kernel"])
ALONE = {"workload__num_requests": 1, "workload__output_tokens": {"kind": "fixed", "value": 9}}
TOGETHER = {"workload__arrivals": {"kind": "at_once"}, "workload__prompt_tokens": {"kind": "fixed", "value": 8}}
STREAM = {"kind": "copy", "from": "gpu0", "to": "gpu0", "rate": "600 GB/s"}
REPEATED = {"kind": "copy", "from": "gpu0", "to": "cpu0", "size": "3 MiB", "period": "0.7 ms"}


def profile(step_s=0.0, sequence_s=0.0, **changes):
    """Return an engine profile with host time beside the GPU."""
    overlapped = {"overlapped_step": f"{step_s} s", "overlapped_sequence": f"{sequence_s} s"}
    return {"schema": 1, "name": "host", **overlapped, **changes}


def run(engine, *, in_flight=True, **changes):
    """Run the tiny scenario with an engine profile; return the simulation and its result."""
    simulation = build_simulation(serving__engine=engine, serving__async_scheduling=in_flight, **changes)
    return simulation, simulation.run()


def step_ticks(result):
    """Return what each step took."""
    return (result.steps["end_ps"] - result.steps["start_ps"]).to_numpy()


@DETAILS
@pytest.mark.parametrize("part", [0.5, 1.0, 2.0])
def test_a_step_takes_the_longer_of_gpu_and_host(detail, part):
    """Every step of one request, the prompt's too, to the tick."""
    gpu = step_ticks(run("none", detail=detail, **ALONE)[1])
    host = round(part * float(np.median(gpu)))
    taken = step_ticks(run(profile(host / TICKS_PER_S), detail=detail, **ALONE)[1])
    assert taken.tolist() == np.maximum(gpu, host).tolist()
    assert (part == 0.5) == (taken.tolist() == gpu.tolist())


@DETAILS
def test_each_sequence_adds_to_the_host(detail):
    """Where the host takes longer than the GPU, n sequences get their next token after step + n · sequence, exactly."""
    for number in (1, 3, 7):
        result = run(profile(5e-3, 1e-3), detail=detail, workload__num_requests=number, **TOGETHER)[1]
        assert result.itl.mean == pytest.approx(5e-3 + number * 1e-3, rel=1e-12)
        assert result.itl.max == pytest.approx(5e-3 + number * 1e-3, rel=1e-12)


@DETAILS
def test_a_host_that_is_always_faster_changes_nothing(detail):
    """Not a bit: no tick of a token, no picosecond of the attribution."""
    (plain, one), (beside, other) = (run(engine, detail=detail) for engine in ("none", profile(1e-6, 1e-8)))
    assert token_ticks(beside) == token_ticks(plain)
    assert other.steps.equals(one.steps)
    assert other.explain()["seconds"] == one.explain()["seconds"]


@DETAILS
def test_without_steps_in_flight_the_gpu_waits_for_all(detail):
    """The same host time comes before the kernels of every step, as that which never overlaps."""
    exposed = {"schema": 1, "name": "exposed", "step": "200 us", "sequence": "10 us"}
    runs = [
        run(engine, in_flight=False, detail=detail)[0]
        for engine in (exposed, profile(2e-4, 1e-5), profile(5e-5, 4e-6, step="150 us", sequence="6 us"))
    ]
    assert token_ticks(runs[0]) == token_ticks(runs[1]) == token_ticks(runs[2])
    gpu, both = (step_ticks(run(e, in_flight=False, detail=detail, **ALONE)[1]) for e in ("none", profile(2e-4, 1e-5)))
    assert (both - gpu).tolist() == pytest.approx([210_000_000] * len(gpu), abs=2)


@DETAILS
def test_the_wait_is_launch_and_host_in_the_attribution(detail):
    """Nothing else grows, and all of it still sums to the time of the steps."""
    gpu, held = (run(engine, detail=detail, **ALONE)[1] for engine in ("none", profile(3e-3)))
    plain, slow = gpu.explain()["seconds"], held.explain()["seconds"]
    grown = {name: slow[name] - plain[name] for name in plain}
    assert grown.pop("launch") == pytest.approx((3e9 * 9 - step_ticks(gpu).sum()) / TICKS_PER_S, rel=1e-9)
    assert all(value == pytest.approx(0, abs=1e-15) for value in grown.values())
    assert sum(slow.values()) == pytest.approx(step_ticks(held).sum() / TICKS_PER_S, rel=1e-12)


def test_ideal_hardware_waits_for_no_host():
    """Peak numbers are those of the GPU."""
    ideal = {"efficiency": "ideal"}
    assert token_ticks(run(profile(1e-2), **ideal)[0]) == token_ticks(run("none", **ideal)[0])


@pytest.mark.parametrize("background", [STREAM, REPEATED], ids=["stream", "sized"])
@pytest.mark.parametrize("tp", [1, 2])
def test_what_others_take_hides_behind_the_host(background, tp):
    """The GPU's time is the one it really takes: traffic costs nothing up to the host's time, and all beyond it."""
    changes = {
        "topology": "dgx-a100-80gb",
        "serving__tensor_parallel_size": tp,
        "background": [background],
        "detail": "kernel",
        **ALONE,
    }
    gpu, host = step_ticks(run("none", **changes)[1]), 10**9
    assert gpu.max() < host
    assert set(step_ticks(run(profile(1e-3), **changes)[1]).tolist()) == {host}
    mid_s = float(np.median(gpu)) / TICKS_PER_S
    for detail in ("kernel", "step"):
        taken = step_ticks(run(profile(mid_s), **changes | {"detail": detail})[1])
        assert taken.min() >= round(mid_s * TICKS_PER_S)
        assert taken.sum() == pytest.approx(np.maximum(gpu, mid_s * TICKS_PER_S).sum(), rel=0.02)


@DETAILS
def test_replicas_in_step_wait_for_the_slowest_host(detail):
    """Of two that share experts one has two sequences, the other one: the next token comes after what two take."""
    result = run(
        profile(2e-3, 1e-3),
        detail=detail,
        topology="dgx-a100-80gb",
        model="tiny-moe",
        serving__data_parallel_size=2,
        serving__enable_expert_parallel=True,
        workload__num_requests=3,
        **TOGETHER,
    )[1]
    assert result.itl.mean == pytest.approx(4e-3, rel=1e-12)
    seconds = result.explain()["seconds"]
    assert sum(seconds.values()) == pytest.approx(step_ticks(result).sum() / TICKS_PER_S, rel=1e-12)


def test_a_timeline_shows_the_wait():
    """At kernel detail the host is seen on every rank from the last kernel to the end of the step."""
    probe = RecordingProbe()
    _, result = run(profile(1e-3), detail="kernel", probes=[probe], **ALONE)
    waits = [(start_s, end_s) for _, what, start_s, end_s, *_ in probe.spans if what == "waiting for host"]
    assert [end_s for _, end_s in waits] == pytest.approx((result.steps["end_ps"].to_numpy() / TICKS_PER_S).tolist())
    assert all(start_s > end_s - 1e-3 for start_s, end_s in waits)
