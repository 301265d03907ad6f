"""The account of what was computed."""

from __future__ import annotations

import pytest

from gpusim.core.clock import Clock
from gpusim.core.probe import RecordingProbe
from gpusim.hardware.compute import Compute
from gpusim.spec.device import ComputeSpec


def build(**peak: float) -> Compute:
    return Compute(Clock(), "gpu0.compute", ComputeSpec(sm_count=108, boost_clock=1.41e9, peak=peak))


def test_kernels_are_counted_by_ticks_and_operations():
    """Two kernels of 3 and 2 ticks within 10 make half the time busy."""
    compute = build(bf16=1e12)
    compute.probes.append(probe := RecordingProbe())
    for pause, length in ((1, 3), (4, 2)):
        compute.clock.run(compute.clock.timeout(pause))
        start = compute.begin()
        compute.clock.run(compute.clock.timeout(length))
        compute.end(start, 7.0)
    assert (compute.busy_ticks, compute.flops, compute.utilisation()) == (5, 14.0, 0.5)
    assert [args for *_, args in probe.spans] == [{"flops": 7.0}] * 2


def test_kernels_of_one_stream_do_not_overlap():
    """A second begin before the end, and an end without a begin, are bugs."""
    compute = build(bf16=1e12)
    with pytest.raises(AssertionError, match="runs no kernel"):
        compute.end(0, 0.0)
    compute.begin()
    with pytest.raises(AssertionError, match="already runs"):
        compute.begin()
