"""Jitter of the delivery of tokens: clients see it, engines do not; alike at both levels of detail."""

import numpy as np
import pytest

import gpusim as gs
from builders import build_simulation
from gpusim.core.probe import RecordingProbe
from gpusim.errors import SpecError
from gpusim.runs.gaps import gap_quantiles, jittered_gap_quantiles

MEAN_S = 0.2e-3
PROFILE = {"schema": 1, "name": "late", "request": "1 ms", "token": "1 ms", "jitter": "200 us"}
OPEN = {
    "serving__engine": PROFILE,
    "serving__jitter": True,
    "workload__output_tokens": {"kind": "uniform", "low": 2, "high": 40},
    "workload__num_requests": 50,
    "detail": "step",
}
CLOSED = OPEN | {"workload__arrivals": {"kind": "closed", "concurrency": 3}}


def simulated(**changes):
    """Run the tiny scenario; return the simulation and its result."""
    simulation = build_simulation(**changes)
    return simulation, simulation.run()


PADDED = CLOSED | {"serving__scheduler": "static", "serving__pad": True}
"""Clients wait for the end of their batch, in which others get tokens still."""


@pytest.mark.parametrize("workload", [OPEN, CLOSED, PADDED], ids=["open", "closed", "padded"])
@pytest.mark.parametrize("changes", [{}, {"topology": "dgx-a100-80gb", "serving__tensor_parallel_size": 2}])
def test_both_details_agree(workload, changes):
    """Delivered times, arrivals of a closed loop and requests are the same to the tick."""
    (by_step, one), (by_kernel, other) = (
        simulated(**workload | changes | {"detail": detail}) for detail in ("step", "kernel")
    )
    for name, log in by_kernel.logs.items():
        np.testing.assert_array_equal(by_step.logs[name].ends, log.ends)
        np.testing.assert_array_equal(by_step.logs[name].delivered, log.delivered)
    assert one.requests.equals(other.requests)
    assert one.itl == other.itl


def test_compared_gaps_are_delivered_ones():
    """What is compared is what the result says, jitter included."""
    late = simulated(**OPEN)[1]
    compared = gs.compare(late, late, metrics=["itl.mean", "itl.p99"])
    assert compared["itl.p99"].a == late.itl.p99
    assert compared["itl.mean"].a == pytest.approx(late.itl.mean, rel=1e-12)


def test_in_an_open_loop_engines_notice_nothing():
    """Steps are the same; TTFT, gaps and E2E are others, each request by what its steps are late, their means are not."""
    simulation, late = simulated(**OPEN)
    plain = simulated(**OPEN | {"serving__jitter": False})[1]
    assert late.steps.equals(plain.steps)
    assert late.itl.mean == pytest.approx(plain.itl.mean, abs=4 * MEAN_S * np.sqrt(2 * 50) / plain.itl.count)
    assert late.itl.p99 > plain.itl.p99
    log, segments = simulation.logs["engine"], simulation.requests.segments
    later = (log.delivered - log.ends) / 1e12
    for name, step in (("ttft_s", "first_step"), ("e2e_s", "last_step")):
        moved = late.requests[name].to_numpy() - plain.requests[name].to_numpy()
        assert moved == pytest.approx(later[segments[step]], abs=2e-12)


def test_a_client_of_a_closed_loop_sends_when_it_has_its_last_token():
    """With one client a request arrives in the tick in which the one before it was delivered."""
    rows = simulated(**OPEN | {"workload__arrivals": {"kind": "closed", "concurrency": 1}})[1].requests
    arrivals, e2e = rows["arrival_s"].to_numpy(), rows["e2e_s"].to_numpy()
    assert arrivals[1:] == pytest.approx((arrivals + e2e)[:-1], abs=1e-11)
    assert np.ptp(e2e - rows["output_tokens"].to_numpy() * e2e.sum() / rows["output_tokens"].sum()) > MEAN_S / 2


def test_seeds_repeat_and_differ():
    """Without other draws, equal seeds give equal delays, others do not; a probe changes nothing."""
    fixed = OPEN | {"workload__output_tokens": {"kind": "fixed", "value": 20}}
    first, again, other = (simulated(**fixed, seed=seed)[1].requests for seed in (3, 3, 4))
    assert first.equals(again)
    assert not first.equals(other)
    watched = build_simulation(probes=[RecordingProbe()], **fixed, seed=3).run()
    assert watched.requests.equals(first)


def test_what_is_worked_out_afterwards_is_what_a_run_with_jitter_gives():
    """In an open loop the percentiles with jitter need no other run."""
    late, plain = (simulated(**OPEN | {"serving__jitter": on})[1] for on in (True, False))
    assert jittered_gap_quantiles(plain, MEAN_S) == gap_quantiles(late) != gap_quantiles(plain)
    assert jittered_gap_quantiles(plain, 0.0) == []


def test_ideal_hardware_has_no_jitter():
    """As it has no host and no API."""
    late, plain = (simulated(**OPEN | {"serving__jitter": on, "efficiency": "ideal"})[1] for on in (True, False))
    assert late.requests.equals(plain.requests)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"serving__engine": "none"}, "serving.engine: the profile none states no jitter, and jitter: true needs some"),
        ({"serving__engine": PROFILE | {"jitter": "0 s"}}, "serving.engine: the profile late states no jitter"),
        (
            {"serving__engine": PROFILE | {"jitter": "2 ms"}},
            "jitter = 0.002 s is the mean of a part of token = 0.001 s",
        ),
    ],
)
def test_jitter_that_is_nowhere_stated_is_refused(changes, expected):
    """One error says which key, and the way out."""
    with pytest.raises(SpecError) as caught:
        build_simulation(**OPEN | changes)
    assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2, "the file, and one problem"
