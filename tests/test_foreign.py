"""Steps folded beside foreign traffic, against kernel detail; and detail that changes in mid-run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import build_simulation, token_ticks
from gpusim.core.probe import RecordingProbe

STREAM = {"kind": "copy", "from": "gpu0", "to": "cpu0", "rate": "20 GB/s"}
REPEATED = {"kind": "copy", "from": "gpu0", "to": "cpu0", "size": "8 MiB", "period": "1 ms"}
OFFSET = {"kind": "copy", "from": "cpu0", "to": "gpu0", "size": "3 MiB", "period": "0.7 ms", "start": "2 ms"}
LINK = {"kind": "copy", "from": "gpu0", "to": "gpu1", "rate": "30 GB/s"}


def played(detail, background, *, probes=(), **changes):
    """Run a load that keeps a small engine on a DGX H100 busy beside copies."""
    simulation = build_simulation(
        probes=probes,
        topology="dgx-h100",
        detail=detail,
        background=background,
        workload__arrivals={"kind": "poisson", "rate": "2500 /s"},
        workload__prompt_tokens={"kind": "uniform", "low": 8, "high": 200},
        workload__output_tokens={"kind": "uniform", "low": 2, "high": 40},
        workload__num_requests=60,
        **changes,
    )
    return simulation, simulation.run()


@pytest.mark.parametrize("tp", [1, 2])
@pytest.mark.parametrize(
    "background",
    [[STREAM], [REPEATED], [STREAM, REPEATED, OFFSET], [LINK, OFFSET]],
    ids=["stream", "sized", "three", "link"],
)
def test_latencies_and_transfers_are_those_of_kernel_detail(background, tp):
    """Mean, p50 and p99 ITL within 1 %, every copy done in the same microsecond, the time lost put down to waiting."""
    (kernel, by_kernel), (step, by_step) = (
        played(detail, background, serving__tensor_parallel_size=tp) for detail in ("kernel", "step")
    )
    assert by_step.summary()["engines"]["engine"]["detail"] == "step"
    for name in ("mean", "p50", "p99"):
        assert getattr(by_step.itl, name) == pytest.approx(getattr(by_kernel.itl, name), rel=0.01)
    for one, other in zip(kernel.background, step.background, strict=True):
        number = min(len(one.transfers), len(other.transfers))
        assert abs(len(one.transfers) - len(other.transfers)) <= 1
        assert np.abs(np.array(one.transfers[:number]) - np.array(other.transfers[:number])).max(initial=0) < 10**6
    waiting = [result.explain()["seconds"]["waiting"] for result in (by_kernel, by_step)]
    # Where hardly anything waits (kernels that wait for their tiles hide it) rounding to ticks shows: 10 ns of the whole run.
    assert waiting[1] == pytest.approx(waiting[0], rel=0.05, abs=1e-8)
    assert waiting[1] > 0


@settings(max_examples=12)
@given(rate=st.floats(0.5, 40), period=st.floats(0.05, 3), size=st.floats(0.1, 6), seed=st.integers(0, 9))
def test_any_copies_over_pcie_are_folded_well(rate, period, size, seed):
    """Streams and repeated copies of any rate, size and period: mean and p99 ITL within 2 % of kernel detail."""
    background = [
        STREAM | {"rate": f"{rate} GB/s"},
        OFFSET | {"size": f"{size} MiB", "period": f"{period} ms"},
    ]
    (_, by_kernel), (_, by_step) = (played(detail, background, seed=seed) for detail in ("kernel", "step"))
    assert by_step.itl.mean == pytest.approx(by_kernel.itl.mean, rel=0.02)
    assert by_step.itl.p99 == pytest.approx(by_kernel.itl.p99, rel=0.02)


def test_a_trickle_changes_nothing():
    """At 1 B/s steps take what they take alone, but for rounding."""
    (alone, _), (beside, _) = (played("step", background) for background in ([], [STREAM | {"rate": "1 B/s"}]))
    ends = [simulation.logs["engine"].ends for simulation in (alone, beside)]
    assert len(ends[0]) == len(ends[1])
    assert np.abs(ends[0] - ends[1]).max() <= 100 * len(ends[0])


def test_the_summary_says_which_share_was_played_by_kernel():
    """All steps beside a copy that takes what it can get, none beside a stream."""
    greedy = {"kind": "copy", "from": "gpu0", "to": "gpu0", "size": "64 MiB", "period": "1 ms"}
    shares = [
        played("step", [entry])[1].summary()["engines"]["engine"]["share_at_kernel_detail"]
        for entry in (greedy, STREAM)
    ]
    assert shares == [1.0, 0.0]


@pytest.mark.parametrize("tp", [1, 2])
@pytest.mark.parametrize("between", [(0.0, 0.003), (0.004, 0.008), (0.01, 1.0)])
def test_detail_changes_in_mid_run(between, tp):
    """Whatever is played kernel by kernel, every token comes in the same tick; probes see kernels of that time only."""
    probe = RecordingProbe()
    whole, _ = played("step", [], serving__tensor_parallel_size=tp)
    simulation = build_like(whole, probe, between)
    simulation.run()
    assert token_ticks(simulation) == token_ticks(whole)
    np.testing.assert_array_equal(simulation.logs["engine"].runs, whole.logs["engine"].runs)
    starts = [start_s for _, what, start_s, *_ in probe.spans if what == "attention"]
    assert starts
    assert min(starts) >= between[0]
    last_step = max(end for end in simulation.logs["engine"].ends[:-1] if end < between[1] * 1e12) / 1e12
    assert max(starts) < last_step + 0.01
    assert 0 < simulation.engines["engine"].steps_by_kernel < len(whole.logs["engine"])


def build_like(simulation, probe, between):
    """Return the same simulation, not yet run, with a probe and some time at kernel detail."""
    return type(simulation)(simulation.plan, probes=[probe], kernel_between=between)
