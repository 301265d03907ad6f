"""Collectives on the topologies: the formulas of the laws on switches, alpha-beta, rings on a cube mesh."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.core.clock import seconds, ticks
from gpusim.model.collectives import AllGather, AllReduce, AllToAll, ReduceScatter, SendRecv
from gpusim.silicon.made_up import made_up
from gpusim.spec.topology import TopologySpec
from gpusim.units import GB, MB, us
from machines import Machine, catalog_device

NVLINK = {"dgx-a100-80gb": 300 * GB, "dgx-h100": 450 * GB}
"""Peak of a GPU's links per direction."""
PAYLOAD = {"dgx-a100-80gb": 0.8, "dgx-h100": 0.82}
"""What packet headers leave of them."""
RANKS = [f"gpu{i}" for i in range(8)]


def duration_s(timed):
    return timed.fixed_s + timed.link_s


def ring_s(law, link, operation, n, size):
    """What the protocol that NCCL takes for large messages takes on a ring."""
    steps = (2 if operation is AllReduce else 1) * (n - 1)
    ring = law.ring
    start = ring.t0 + ring.t_spread + ring.t_simple + ring.t_hop_simple * steps
    return start + (steps + ring.copy_share) * size / n / (ring.link_efficiency * link)


@pytest.mark.parametrize("topology", NVLINK)
@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("operation", [ReduceScatter, AllGather])
def test_nccl_is_its_formula(topology, ranks, operation):
    """Behind switches NCCL takes its law's time, but no less than the links' payload allows."""
    group = Machine(topology).group(*RANKS[:ranks])
    for size in (64 * MB, 512 * MB):
        expected = ring_s(group.laws.nccl, NVLINK[topology], operation, ranks, size)
        assert duration_s(group.timed(operation("", size))) == pytest.approx(expected, rel=1e-9)


def test_switches_that_add_up_save_traffic():
    """A large all-reduce in the switches of H100s sends 1 + 1 / n of the buffer where a ring sends 2 (n - 1) / n."""
    group = Machine("dgx-h100").group(*RANKS)
    timed = group.timed(AllReduce("", 512 * MB))
    assert timed.algorithm == "nccl_nvls"
    assert timed.bound_s == pytest.approx([9 / 8 * 512 * MB / (450 * GB)], rel=1e-9)


@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("size", [1e3, 64e3, 1 * MB, 8 * MB])
def test_the_engine_s_all_reduce_is_its_formula(ranks, size):
    """Up to its limit vLLM's own all-reduce takes its law's time, one shot or, where its source says so, two."""
    topology = "dgx-a100-80gb"
    group = Machine(topology).group(*RANKS[:ranks])
    law, link = group.laws.engine_all_reduce, NVLINK[topology]
    spread = min(max(np.log2(size / 1024) / 4, 0), 1)
    expected = law.t0 + law.t_peer * (ranks - 1) + law.t_spread * spread
    if size >= law.two_shot_from.get(ranks, np.inf):
        efficiency = min(law.two_shot_efficiency, PAYLOAD[topology])
        expected += law.t_barrier + 2 * (ranks - 1) / ranks * size / (efficiency * link)
    else:
        expected += (ranks - 1) * size / (law.one_shot_efficiency * link)
    assert duration_s(group.timed(AllReduce("", size))) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("ranks", [2, 8])
def test_an_all_to_all_fills_every_port(ranks):
    """Each rank sends n - 1 parts out of its port; two ranks are held by what one pair of channels carries."""
    group = Machine("dgx-h100").group(*RANKS[:ranks])
    pairs, size = group.laws.nccl.pairs, 512 * MB
    timed = group.timed(AllToAll("", size))
    port_s = (ranks - 1) / ranks * size / (pairs.all_efficiency * 450 * GB)
    pair_s = size / ranks / (pairs.pair_efficiency * 450 * GB)
    assert timed.link_s == pytest.approx(max(port_s, pair_s), rel=1e-9)
    assert (pair_s > port_s) == (ranks == 2)


def test_a_send_uses_one_way():
    """From the first rank to the second, and nothing back."""
    machine = Machine("dgx-h100")
    group = machine.group("gpu2", "gpu5")
    timed = group.timed(SendRecv("", 64 * MB))
    links = [machine.cluster.fabric.links[edge] for edge in timed.loads.resources]
    assert {link.source for link in links if link.source.startswith("gpu")} == {"gpu2"}
    assert {link.target for link in links if link.target.startswith("gpu")} == {"gpu5"}


def test_rings_between_machines_use_every_nic():
    """Two machines of four: each GPU's NIC carries a quarter of the ring."""
    machine = Machine(TopologySpec.model_validate(made_up(catalog_device("h100-sxm"), 4, 2)))
    group = machine.group(*machine.cluster.gpus)
    timed = group.timed(AllGather("", 80 * MB))
    assert timed.bound_s == pytest.approx([7 / 8 * 80 * MB / (4 * 12.5 * GB)], rel=1e-9)
    assert group.ways.num_nodes == 2
    assert not group.ways.is_direct


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
    """By one protocol a larger buffer never takes less; NCCL may change to a faster one later than it should."""
    group = Machine("dgx-h100").group(*RANKS[:ranks])
    less, more = (group.timed(AllGather("", size)) for size in sizes)
    assert duration_s(less) <= duration_s(more) or less.algorithm != more.algorithm


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
    assert timed.bound_s == pytest.approx([9 / 8 * 64 * MB / (450 * GB)], rel=1e-9)
    assert timed.bound_s[0] < seconds(timed.ticks[0])
