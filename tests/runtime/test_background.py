"""Background traffic: when transfers start, how often, and what is said of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.core.clock import seconds, ticks
from gpusim.model.collectives import AllReduce
from gpusim.units import MB, ms, us
from machines import Machine

PCIE = 0.914 * 31.51e9
"""Payload rate of the link between CPU and GPU of single-gpu."""


def starts(background):
    return [start for start, _ in background.transfers]


def run_for(machine, duration_s):
    machine.clock.run(until=machine.clock.timeout(ticks(duration_s)))


def test_a_copy_takes_its_latency_and_its_narrowest_part():
    """From the host: 0.8 us on the way, and then the bytes at what PCIe carries."""
    machine = Machine()
    copy = machine.copy("cpu0", "gpu0", size=100 * MB, start=3 * us)
    machine.clock.run()
    ((start, end),) = copy.transfers
    assert start == ticks(3 * us)
    assert seconds(end - start) == pytest.approx(0.8 * us + 100 * MB / PCIE, rel=1e-9)


@settings(max_examples=20)
@given(period=st.floats(1e-4, 1e-2), start=st.floats(0, 1e-2), count=st.integers(1, 6))
def test_copies_start_by_their_period(period, start, count):
    """Start to start is the period where the copy is shorter, as often as was said."""
    machine = Machine()
    copy = machine.copy("cpu0", "gpu0", size=1 * MB, period=period, start=start, count=count)
    machine.clock.run()
    assert starts(copy) == [ticks(start) + i * ticks(period) for i in range(count)]


def test_a_late_copy_starts_when_its_predecessor_has_finished():
    """Copies longer than their period follow each other without a gap."""
    machine = Machine()
    copy = machine.copy("cpu0", "gpu0", size=100 * MB, period=1 * ms, count=4)
    machine.clock.run()
    assert starts(copy)[1:] == [end for _, end in copy.transfers[:-1]]


def test_a_copy_without_a_period_comes_once():
    """And then nothing is left to happen."""
    machine = Machine()
    copy = machine.copy("gpu0", "cpu0", size=1 * MB)
    machine.clock.run()
    assert len(copy.transfers) == 1


def test_all_reduces_take_their_law():
    """Alone, each takes what an engine's own would."""
    machine = Machine("dgx-h100")
    background = machine.all_reduces("gpu0", "gpu1", "gpu2", "gpu3", size=1 * MB, period=1 * ms, count=3)
    machine.clock.run()
    law = background.group.timed(AllReduce("", 1 * MB)).ticks[0]
    assert background.transfers == [(i * ticks(1 * ms), i * ticks(1 * ms) + law) for i in range(3)]


@settings(max_examples=20)
@given(rate=st.floats(1e3, 1e11))
def test_a_stream_moves_at_its_rate_or_what_its_links_carry(rate):
    """Bytes moved are the time times the rate, at most that of the narrowest part; both memories are counted."""
    machine = Machine()
    stream = machine.copy("cpu0", "gpu0", rate=rate, start=1 * ms)
    run_for(machine, 11 * ms)
    moved = stream.summary()["moved_bytes"]
    assert moved == pytest.approx(10 * ms * min(rate, PCIE), rel=1e-9)
    assert machine.cluster.banks["gpu0"].paced_bytes == pytest.approx(moved, rel=1e-9)
    assert machine.cluster.banks["cpu0"].paced_bytes == pytest.approx(moved, rel=1e-9)


def test_the_summary_counts_what_has_finished():
    """Number, mean and largest time, and bytes of the transfers that are done; one under way is not."""
    machine = Machine()
    copy = machine.copy("cpu0", "gpu0", size=100 * MB, period=1 * ms)
    one_s = 0.8 * us + 100 * MB / PCIE
    run_for(machine, 2.5 * one_s)
    summary = copy.summary()
    assert (summary["name"], summary["kind"], summary["finished"]) == ("copy", "copy", 2)
    assert summary["moved_bytes"] == 200 * MB
    assert summary["mean_s"] == pytest.approx(one_s, rel=1e-9)
    assert summary["max_s"] == pytest.approx(one_s, rel=1e-9)


def test_a_summary_of_nothing():
    """Before its start nothing has moved and there is no mean."""
    for traffic in ({"size": 1 * MB}, {"rate": 1e9}):
        machine = Machine()
        summary = machine.copy("cpu0", "gpu0", start=1 * ms, **traffic).summary()
        assert (summary["moved_bytes"], summary["finished"], summary["mean_s"], summary["max_s"]) == (
            0.0,
            0,
            None,
            None,
        )
