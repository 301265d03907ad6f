"""What foreign copies leave an engine, and whether it can be known ahead."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.core.clock import ticks
from gpusim.runtime.foreign_load import PATTERNS, EngineTraffic, ForeignCopies
from gpusim.runtime.foreign_timeline import NEVER, ForeignTimeline
from gpusim.spec.background import CopySpec
from gpusim.units import GB, MiB
from machines import Machine


def copies(machine, *stated):
    """Return copies given as (from, to, further keys)."""
    specs = [CopySpec.model_validate({"kind": "copy", "from": a, "to": b, **keys}) for a, b, keys in stated]
    return ForeignCopies(machine.cluster, specs)


def engine(machine, *gpus):
    return EngineTraffic(gpus, machine.group(*gpus) if len(gpus) > 1 else None)


def test_a_stream_takes_its_part_of_memory():
    """20 GB/s out of a GPU take 20 GB/s of its memory's achieved bandwidth, and nothing of another's."""
    machine = Machine("dgx-h100")
    streams = copies(machine, ("gpu0", "cpu0", {"rate": 20 * GB}))
    memory = machine.cluster.gpus["gpu0"].memory
    assert streams.load((0,), engine(machine, "gpu0")).memory_share == pytest.approx(20 * GB / memory.bandwidth)
    assert streams.load((0,), engine(machine, "gpu1")).memory_share == 0.0
    assert streams.load((), engine(machine, "gpu0")).memory_share == 0.0


def test_the_rank_that_is_worst_off_counts():
    """A copy out of one rank and two streams within another: all ranks wait for the one with less memory left."""
    machine = Machine("dgx-h100")
    both = copies(machine, ("gpu0", "cpu0", {"rate": 20 * GB}), ("gpu1", "gpu1", {"rate": 100 * GB}))
    load = both.load((0, 1), engine(machine, "gpu0", "gpu1"))
    assert load.memory_share == pytest.approx(200 * GB / machine.cluster.gpus["gpu1"].memory.bandwidth)


def test_a_stream_on_the_links_stretches_collectives():
    """A collective that fills its links takes c / (c - r) as long beside a stream of rate r on links of capacity c."""
    machine = Machine("dgx-h100")
    stream = copies(machine, ("gpu0", "gpu1", {"rate": 50 * GB}))
    group = engine(machine, "gpu0", "gpu1", "gpu2", "gpu3")
    capacity = machine.cluster.fabric.direct_bandwidth("gpu0", "gpu1") or 0.82 * 450 * GB
    for pattern in PATTERNS:
        assert stream.load((0,), group).of(pattern) == pytest.approx(capacity / (capacity - 50 * GB), rel=1e-6)


@pytest.mark.parametrize(
    ("stated", "gpus", "constant"),
    [
        (("gpu0", "cpu0", {"rate": 20 * GB}), ("gpu0",), True),
        (("gpu0", "cpu0", {"size": 64 * MiB}), ("gpu0", "gpu1"), True),
        (("gpu0", "gpu1", {"rate": 50 * GB}), ("gpu0", "gpu1"), True),
        (("gpu0", "gpu1", {"rate": 300 * GB}), ("gpu0", "gpu1"), False),
        (("gpu0", "gpu1", {"size": 64 * MiB}), ("gpu0", "gpu1"), False),
        (("gpu0", "gpu0", {"size": 64 * MiB}), ("gpu0",), False),
        (("gpu0", "gpu0", {"rate": 50 * GB}), ("gpu0",), True),
    ],
)
def test_who_wants_more_than_a_fair_share_is_not_constant(stated, gpus, constant):
    """Copies within a fair share of memory and links go on as if nobody was there; others feel kernels or collectives."""
    machine = Machine("dgx-h100")
    assert copies(machine, stated).are_constant([engine(machine, *gpus)]) == constant


def test_copies_that_wait_for_their_turn_are_not_constant():
    """With more sized copies than copy engines on a GPU, one may wait for another."""
    machine = Machine("dgx-h100")
    number = machine.cluster.gpus["gpu0"].copy_engines.capacity
    some = [("gpu0", "cpu0", {"size": 1 * MiB})] * number
    assert copies(machine, *some).are_constant([engine(machine, "gpu0")])
    assert not copies(machine, *some, some[0]).are_constant([engine(machine, "gpu0")])


@st.composite
def background(draw):
    """Copies between a GPU and its host, sized and repeated or as streams."""
    ends = [("gpu0", "cpu0"), ("cpu0", "gpu0"), ("gpu1", "cpu0")]
    stated = []
    for source, target in draw(st.lists(st.sampled_from(ends), min_size=1, max_size=3, unique=True)):
        keys = {"start": draw(st.sampled_from([0.0, 1e-4, 3e-3]))}
        if draw(st.booleans()):
            keys |= {"rate": draw(st.integers(1, 70)) * GB}
        else:
            keys |= {"size": draw(st.integers(1, 64)) * MiB, "period": draw(st.integers(1, 9)) * 4e-4}
            keys |= {"count": draw(st.integers(1, 5))}
        stated.append((source, target, keys))
    return stated


@settings(max_examples=60)
@given(stated=background())
def test_the_timeline_is_the_course_of_the_copies(stated):
    """Copies under way change exactly when the simulated ones begin to move and end, within a tick of rounding each."""
    machine = Machine("dgx-h100")
    known = copies(machine, *stated)
    timeline = ForeignTimeline(known, engine(machine, "gpu0", "gpu1"))
    entries = [machine.copy(a, b, **keys) for a, b, keys in stated]
    until = ticks(0.02)
    machine.clock.run(machine.clock.timeout(until))
    changes = {ticks(keys["start"]) for _, _, keys in stated if "rate" in keys}
    for entry, loads in zip(entries, known.loads, strict=True):
        for begin, end in entry.transfers:
            changes |= {begin + ticks(loads.latency_s), end}
    found, tick = [], 0
    while tick < max(changes):
        tick = timeline.at(tick)[1]
        found.append(tick)
        if tick == NEVER:
            break
    assert all(min(abs(tick - other) for other in [0, *found]) <= 2 * len(found) for tick in changes)
