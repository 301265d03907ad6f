"""Foreign traffic: kernels, collectives and copies that share channels or links take what law and fair sharing say."""

from __future__ import annotations

import numpy as np
import pytest

from builders import build_simulation
from gpusim.core.clock import seconds, ticks
from gpusim.hardware.memory import MemoryBank
from gpusim.model.collectives import AllReduce
from gpusim.runtime.laws.timing import smooth_max
from gpusim.runtime.program import TimedKernel

BATCH = {
    "model": "llama-3.1-8b",
    "serving": {"max_num_seqs": 4, "max_num_batched_tokens": 4096, "scheduler": "static"},
    "workload": {
        "arrivals": {"kind": "at_once"},
        "prompt_tokens": {"kind": "fixed", "value": 700},
        "output_tokens": {"kind": "fixed", "value": 5},
        "num_requests": 4,
    },
}
TWO_ENGINES = {
    "topology": "pcie-4gpu-2root",
    "serving": BATCH["serving"] | {"tensor_parallel_size": 2},
    "engines": [{"name": "left", "gpus": ["gpu0", "gpu2"]}, {"name": "right", "gpus": ["gpu1", "gpu3"]}],
}


def played(monkeypatch, **changes):
    """Run a simulation; return it, its step times in seconds, and the programs it timed."""
    simulation = build_simulation(**BATCH | changes)
    programs = []
    for engine in simulation.engines.values():
        timer = engine.executor.timer
        original = timer.time

        def noting(*args, original=original):
            programs.append(original(*args))
            return programs[-1]

        monkeypatch.setattr(timer, "time", noting)
    simulation.run()
    logs = list(simulation.logs.values())
    return simulation, [np.array([seconds(int(t)) for t in log.ends - log.starts]) for log in logs], programs


def predicted_s(programs, *, memory_left=1.0, link_slowdown=1.0):
    """Step times by the laws when kernels get a fraction of their memory and collectives a fraction of their links."""
    steps = []
    for timed in programs:
        for step in range(timed.program.steps):
            total = sum(_operation(o, step, memory_left, link_slowdown) for o in timed.operations)
            steps.append(seconds(total))
    return np.array(steps)


def _operation(operation, step, memory_left, link_slowdown):
    if not isinstance(operation, TimedKernel):
        return ticks(operation.fixed_s + operation.link_s * link_slowdown)
    row = min(step, len(operation.ticks) - 1)
    terms = operation.terms
    bytes_s = np.max(operation.demand_s[row]) / memory_left
    body = smooth_max(terms.other_s[row : row + 1], bytes_s + terms.l2_s[row : row + 1], terms.smoothness)
    return ticks(float(terms.fixed_s[row] + body[0]))


@pytest.mark.parametrize(("share", "left"), [(0.05, 0.95), (0.3, 0.7), (0.6, 0.5)])
def test_a_stream_in_memory_slows_kernels_as_the_law_says(monkeypatch, share, left):
    """A copy that asks for a share of one GPU's HBM leaves kernels the rest, and never less than their fair half."""
    bandwidth = build_simulation(**BATCH).cluster.banks["gpu0"].bandwidth
    stream = {"kind": "copy", "from": "gpu0", "to": "gpu0", "rate": f"{share * bandwidth / 2!r} B/s"}
    _, (alone_s,), programs = played(monkeypatch)
    simulation, (measured_s,), _ = played(monkeypatch, background=[stream])
    np.testing.assert_allclose(measured_s, predicted_s(programs, memory_left=left), rtol=1e-6)
    assert measured_s[-1] > (1 + 0.5 * share) * alone_s[-1]
    moved, asked = simulation.background[0].summary()["moved_bytes"], share * bandwidth / 2 * simulation.clock.now_s
    assert moved == pytest.approx(asked, rel=1e-6) if share <= left else 0.5 / share * asked <= moved < asked


def test_a_sized_copy_shares_memory_with_kernels_by_halves(monkeypatch):
    """A copy within HBM takes, of each channel, what an equal partner of the running kernel gets."""
    copy = {"kind": "copy", "from": "gpu0", "to": "gpu0", "size": "2 GiB"}
    _, (alone_s,), _ = played(monkeypatch)
    simulation, (measured_s,), _ = played(monkeypatch, background=[copy])
    bank = simulation.cluster.banks["gpu0"]
    ((start, end),) = simulation.background[0].transfers
    alone_copy_s = 2 * 2 * 2**30 / bank.bandwidth
    assert alone_copy_s < seconds(end - start) <= 2 * alone_copy_s * (1 + 1e-9)
    # What the kernels lost is service they gave to the copy: at most all of it, at least what they were busy for.
    lost_s = measured_s.sum() - alone_s.sum()
    assert 0 < lost_s <= alone_copy_s * (1 + 1e-6)


def test_two_engines_share_an_uplink_as_the_law_says(monkeypatch):
    """All-reduces of two engines in lock-step over one PCIe uplink: the bytes of each take twice as long."""
    _, (left_s, right_s), programs = played(monkeypatch, **TWO_ENGINES)
    np.testing.assert_array_equal(left_s, right_s)
    expected = predicted_s(programs[::2], link_slowdown=2.0)
    np.testing.assert_allclose(left_s, expected, rtol=1e-6)
    assert expected.sum() > 1.02 * predicted_s(programs[::2]).sum()


def test_engines_behind_their_own_switches_do_not_meet(monkeypatch):
    """Placed on a pair behind one switch each, the same two engines take exactly their laws' time."""
    apart = [{"name": "left", "gpus": ["gpu0", "gpu1"]}, {"name": "right", "gpus": ["gpu2", "gpu3"]}]
    _, (left_s, right_s), programs = played(monkeypatch, **TWO_ENGINES | {"engines": apart})
    np.testing.assert_array_equal(left_s, right_s)
    np.testing.assert_array_equal(left_s, predicted_s(programs[::2]))


@pytest.mark.parametrize("delay_us", [0, 40])
def test_background_collectives_on_a_shared_uplink(delay_us):
    """Two all-reduces over one uplink: where both are on it each gets half, and then the rest is alone."""
    size = 64 * 2**20
    entries = [
        {"kind": "all_reduce", "gpus": ["gpu0", "gpu2"], "size": f"{size} B"},
        {"kind": "all_reduce", "gpus": ["gpu1", "gpu3"], "size": f"{size} B", "start": f"{delay_us} us"},
    ]
    idle = {"workload": BATCH["workload"] | {"num_requests": 1, "output_tokens": {"kind": "fixed", "value": 40}}}
    simulation = build_simulation(**BATCH | idle | {"topology": "pcie-4gpu-2root", "background": entries})
    simulation.run()
    (first,), (second,) = (entry.transfers for entry in simulation.background)
    timed = simulation.background[0].group.timed(AllReduce("", size))
    link_s, delay_s = timed.link_s, delay_us * 1e-6
    assert seconds(first[1] - first[0]) == pytest.approx(timed.fixed_s + 2 * link_s - delay_s, rel=1e-6)
    assert seconds(second[1] - second[0]) == pytest.approx(timed.fixed_s + 2 * link_s - delay_s, rel=1e-6)


@pytest.mark.parametrize("case", ["memory", "links"])
def test_traffic_of_vanishing_rate_changes_nothing(monkeypatch, case):
    """A stream of one byte per second moves no token by a part in 10⁸ (nor by more than its kernels' rounding)."""
    ends = {"memory": ("gpu0", "gpu0"), "links": ("gpu1", "gpu3")}[case]
    machine = TWO_ENGINES | {"engines": [{"name": "left", "gpus": ["gpu0", "gpu2"]}]} if case == "links" else {}
    trickle = {"kind": "copy", "from": ends[0], "to": ends[1], "rate": "1 B/s"}
    _, (alone_s,), _ = played(monkeypatch, **machine)
    _, (measured_s,), _ = played(monkeypatch, **machine, background=[trickle])
    np.testing.assert_allclose(measured_s, alone_s, rtol=1e-8)


def test_step_times_come_from_the_bank(monkeypatch):
    """Kernel detail plays its bytes on the memory channels: a bank that serves at half speed makes steps longer."""
    _, (alone_s,), programs = played(monkeypatch)
    original = MemoryBank.stream
    monkeypatch.setattr(
        MemoryBank, "stream", lambda bank, demand_s, size: (bank.set_paced(0.5), original(bank, demand_s, size))[1]
    )
    _, (measured_s,), _ = played(monkeypatch)
    np.testing.assert_allclose(measured_s, predicted_s(programs, memory_left=0.5), rtol=1e-6)
    assert measured_s.sum() > 1.15 * alone_s.sum()
