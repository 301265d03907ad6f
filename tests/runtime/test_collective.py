"""Collectives on the topologies: the formulas of the laws on switches, alpha-beta, rings on a cube mesh."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.core.clock import seconds, ticks
from gpusim.model.work import AllGather, AllReduce
from gpusim.units import GB, MB, us
from machines import Machine

NVLINK = {"dgx-a100-80gb": 300 * GB, "dgx-h100": 450 * GB}
"""Peak of a GPU's links per direction."""
PAYLOAD = {"dgx-a100-80gb": 0.8, "dgx-h100": 0.82}
"""What packet headers leave of them."""
HBM = {"dgx-a100-80gb": 2.039e12, "dgx-h100": 3.35e12}
RANKS = [f"gpu{i}" for i in range(8)]


def duration_s(timed):
    return timed.fixed_s + timed.link_s


def nccl_s(law, link, operation, n, size):
    """min(lat + f b / (ll_fraction e link), lat + t_simple + f b / (e link))."""
    f = (2 if operation is AllReduce else 1) * (n - 1) / n
    latency = law.t_base + law.t_hop * f * n
    on_link = f * size / (law.link_efficiency * link)
    return min(latency + on_link / law.ll_fraction, latency + law.t_simple + on_link)


def engine_s(law, link, payload, hbm, n, size):
    """t0 + t_peer (n-1) + copies 2 b / HBM + min(one shot, two shots), no faster than the links' payload."""
    start = law.t0 + law.t_peer * (n - 1) + law.copies * 2 * size / hbm
    one = (n - 1) * size / (min(law.one_shot_efficiency, payload) * link)
    two = law.t_barrier + 2 * (n - 1) / n * size / (min(law.two_shot_efficiency, payload) * link)
    return start + min(one, two)


@pytest.mark.parametrize("topology", NVLINK)
@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("operation", [AllReduce, AllGather])
def test_nccl_is_its_formula(topology, ranks, operation):
    """Behind switches NCCL takes its law's time: all-gathers, and all-reduces beyond the engine's limit."""
    group = Machine(topology).group(*RANKS[:ranks])
    sizes = [16 * MB, 512 * MB] if operation is AllReduce else [1e3, 1 * MB, 64 * MB]
    for size in sizes:
        expected = nccl_s(group.laws.nccl, NVLINK[topology], operation, ranks, size)
        assert duration_s(group.timed(operation("", size))) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("topology", NVLINK)
@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("size", [1e3, 64e3, 1 * MB, 8 * MB])
def test_the_engine_s_all_reduce_is_its_formula(topology, ranks, size):
    """Up to its limit an engine's own all-reduce takes its law's time, but no less than the links' payload allows."""
    group = Machine(topology).group(*RANKS[:ranks])
    law = group.laws.engine_all_reduce
    expected = engine_s(law, NVLINK[topology], PAYLOAD[topology], HBM[topology], ranks, size)
    assert duration_s(group.timed(AllReduce("", size))) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=25)
@given(ranks=st.integers(2, 8), size=st.floats(1e3, 1e9), operation=st.sampled_from([AllReduce, AllGather]))
def test_an_ideal_ring_is_alpha_beta(ranks, size, operation):
    """It takes f (n hop + b / link) with f = 2 (n - 1) / n, or half of it for an all-gather."""
    group = Machine("dgx-a100-80gb", ideal=True).group(*RANKS[:ranks])
    f = (2 if operation is AllReduce else 1) * (ranks - 1) / ranks
    expected = f * (ranks * 1.1 * us + size / (300 * GB))
    assert duration_s(group.timed(operation("", size))) == pytest.approx(expected, rel=1e-9)


def test_an_ideal_ring_pays_the_hops_it_takes():
    """On a cube mesh the ring goes along links of 1 us, though neighbours in number may meet over the hosts only."""
    machine = Machine("dgx-1v", ideal=True)
    timed = machine.group(*RANKS).timed(AllReduce("", 1 * MB))
    assert machine.cluster.fabric.route("gpu3", "gpu4").latency_s > 1.5 * us
    assert timed.fixed_s == pytest.approx(14 * us, rel=1e-9)


def test_a_cube_mesh_uses_all_its_links():
    """Eight GPUs of a DGX-1V ring both ways over double and single links: 150 GB/s out of each, no PCIe."""
    machine = Machine("dgx-1v", ideal=True)
    timed = machine.group(*RANKS).timed(AllReduce("", 80 * MB))
    assert timed.link_s == pytest.approx(2 * 7 / 8 * 80 * MB / (150 * GB), rel=1e-9)
    assert {machine.cluster.fabric.links[edge].kind for edge in timed.loads.resources} == {"nvlink"}


def test_ranks_across_sockets_cross_the_uplinks():
    """Without scale-up links a ring takes the hosts' way, and its narrowest link decides."""
    machine = Machine("pcie-4gpu-2root", ideal=True)
    timed = machine.group("gpu0", "gpu2").timed(AllReduce("", 30 * MB))
    assert timed.link_s == pytest.approx(30 * MB / (31.51 * GB), rel=1e-9)
    assert {machine.cluster.fabric.links[edge].kind for edge in timed.loads.resources} == {"pcie", "socket"}


@settings(max_examples=20)
@given(sizes=st.tuples(st.floats(1e2, 1e9), st.floats(1e2, 1e9)).map(sorted), ranks=st.sampled_from([2, 4, 8]))
def test_more_bytes_take_longer(sizes, ranks):
    """Within one kind of software a larger buffer never takes less, whatever protocol is chosen."""
    group = Machine("dgx-h100").group(*RANKS[:ranks])
    less, more = (duration_s(group.timed(AllGather("", size))) for size in sizes)
    assert less <= more


@settings(max_examples=20)
@given(size=st.floats(1e2, 1e9), ideal=st.booleans())
def test_performed_alone_it_takes_its_law(size, ideal):
    """On idle links the clock shows the rounded time of the law, and the links have moved the ring's bytes."""
    machine = Machine("dgx-h100", ideal=ideal)
    group = machine.group(*RANKS)
    timed = group.timed(AllReduce("", size))
    noted = machine.perform(group, timed)
    machine.clock.run()
    assert noted == {"start": 0, "end": ticks(duration_s(timed))}
    assert timed.ticks == [noted["end"]]
    moved = sum(machine.cluster.fabric.moved_bytes().values())
    assert moved == pytest.approx(timed.loads.amounts.sum(), rel=1e-9)


def test_its_bound_is_its_traffic_at_the_peak_of_the_links():
    """The bound leaves out fixed times and protocol losses."""
    timed = Machine("dgx-h100").group(*RANKS).timed(AllReduce("", 64 * MB))
    assert timed.bound_s == pytest.approx([2 * 7 / 8 * 64 * MB / (450 * GB)], rel=1e-9)
    assert timed.bound_s[0] < seconds(timed.ticks[0])
