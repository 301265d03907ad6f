"""Algorithms of collectives: their fixed times and traffic, by the formulas, and which of them NCCL and engines take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.laws.all_reduce import own_algorithms
from gpusim.runtime.laws.collectives import Connection, ideal_algorithms, ring_bytes
from gpusim.runtime.laws.nccl import nccl_algorithms
from gpusim.units import GB, KiB, MiB, us
from machines import catalog_device

H100, A100 = (laws_of(catalog_device(name)) for name in ("h100-sxm", "a100-sxm-80gb"))
NVLINK = {"ampere": 300 * GB, "hopper": 450 * GB, "blackwell": 900 * GB}


def ways(ranks=8, link=450 * GB, **others):
    """Return ranks behind NVSwitches."""
    known = {"is_direct": True, "is_switched": True, "over_hosts": False, "num_nodes": 1, **others}
    return Connection(num_ranks=ranks, ring_bandwidth=link, hbm_bandwidth=3.35e12, **known)


def taken(law, operation, size, connection):
    """Return the one algorithm of NCCL for *size* bytes."""
    found = [a for a in nccl_algorithms(law, operation, np.array([float(size)]), connection) if np.all(a.usable)]
    (algorithm,) = found
    return algorithm


def own(size, connection, law=H100.engine_all_reduce):
    """Return the names of the engine's own ways that come into question."""
    found = own_algorithms(law, "all_reduce", np.array([float(size)]), connection)
    return [algorithm.name for algorithm in found if np.all(algorithm.usable)]


@given(ranks=st.integers(2, 64), size=st.floats(1, 1e9))
def test_a_ring_sends_every_byte_but_its_own(ranks, size):
    """Reduce-scatter and all-gather each send (n - 1) / n of the buffer; two ranks all-reduce by sending all of it."""
    assert ring_bytes("all_gather", ranks, size) == pytest.approx((ranks - 1) / ranks * size)
    assert ring_bytes("all_reduce", ranks, size) == pytest.approx(2 * ring_bytes("all_gather", ranks, size))
    assert ring_bytes("all_reduce", 2, size) == size


@given(ranks=st.integers(2, 64))
def test_an_ideal_ring_takes_its_hops(ranks):
    """2 (n - 1) hops for an all-reduce, n - 1 for an all-gather, at peak; what pairs send each other takes one."""
    (reduce,) = ideal_algorithms("all_reduce", ranks, 1e6, 3e-6)
    (gather,) = ideal_algorithms("all_gather", ranks, 1e6, 3e-6)
    (exchange,) = ideal_algorithms("all_to_all", ranks, 1e6, 3e-6)
    assert reduce.fixed_s == pytest.approx(2 * (ranks - 1) * 3e-6)
    assert gather.fixed_s == pytest.approx((ranks - 1) * 3e-6)
    assert (exchange.fixed_s, exchange.bytes_per_pair) == (3e-6, 1e6 / ranks)
    assert reduce.efficiency == gather.efficiency == 1.0


@pytest.mark.parametrize(
    ("generation", "operation", "ranks", "switches"),
    [
        ("ampere", "all_reduce", 2, {512 * KiB: "ll", 1 * MiB: "simple"}),
        ("ampere", "all_gather", 2, {1 * MiB: "ll", 2 * MiB: "simple"}),
        ("hopper", "all_reduce", 2, {1 * MiB: "ll", 2 * MiB: "simple"}),
        ("blackwell", "all_reduce", 2, {2 * MiB: "ll", 4 * MiB: "simple"}),
        ("ampere", "all_reduce", 8, {2 * MiB: "ll", 4 * MiB: "ll128", 32 * MiB: "simple"}),
        ("hopper", "all_reduce", 8, {1 * MiB: "ll", 2 * MiB: "nvls", 512 * MiB: "nvls"}),
        ("blackwell", "all_reduce", 8, {2 * MiB: "ll", 4 * MiB: "nvls"}),
        ("hopper", "all_gather", 8, {4 * MiB: "ll", 8 * MiB: "ll128", 32 * MiB: "simple"}),
        ("blackwell", "all_gather", 8, {8 * MiB: "ll", 16 * MiB: "ll128", 64 * MiB: "simple"}),
    ],
)
def test_nccl_changes_protocols_where_measured_times_jump(generation, operation, ranks, switches):
    """Its own estimates put the changes between the sizes at which nccl-tests show steps of up to twofold."""
    law = H100.nccl.model_copy(update={"tuning": generation})
    connection = ways(ranks, NVLINK[generation])
    for size, protocol in switches.items():
        assert taken(law, operation, size, connection).name == f"nccl_{protocol}"


def test_the_switches_add_up_for_three_or_more_of_a_machine():
    """Two ranks, GPUs without a switch, an older generation, several machines: rings."""
    big = 64 * MiB
    assert taken(H100.nccl, "all_reduce", big, ways(3)).name == "nccl_nvls"
    others = (ways(2), ways(is_switched=False), ways(num_nodes=2, is_direct=False))
    assert {taken(H100.nccl, "all_reduce", big, connection).name for connection in others} == {"nccl_simple"}
    assert taken(A100.nccl, "all_reduce", big, ways(8)).name == "nccl_simple"


def test_nccl_pays_for_its_steps():
    """The low-latency protocol by t_hop a step, the bandwidth protocol by its own start and steps."""
    ring = H100.nccl.ring
    small, large = (taken(H100.nccl, "all_reduce", size, ways(2)) for size in (512, 64 * MiB))
    assert small.fixed_s == pytest.approx(ring.t0 + 2 * ring.t_hop, rel=1e-12)
    assert small.efficiency == ring.ll_efficiency
    assert large.fixed_s == pytest.approx(ring.t0 + ring.t_spread + ring.t_simple + 2 * ring.t_hop_simple, rel=1e-12)
    assert large.bytes_per_pair == 64 * MiB
    assert large.exposed_bytes == pytest.approx(ring.copy_share * 32 * MiB)


def test_small_stores_suffer_on_the_way_over_a_cpu():
    """Low-latency rings over hosts have a part of the links that they have behind one PCIe switch."""
    law = laws_of(catalog_device("rtx-pro-6000-server")).nccl
    near, far = (ways(2, 63 * GB, is_direct=False, is_switched=False, over_hosts=over) for over in (False, True))
    ratio = taken(law, "all_gather", 4096, far).efficiency / taken(law, "all_gather", 4096, near).efficiency
    assert ratio == pytest.approx(law.ring.ll_host_factor)


@given(ranks=st.integers(2, 8))
def test_every_peer_gets_its_part_at_once(ranks):
    """An all-to-all has one n-th for each peer, and waits a little for every further one."""
    pairs = H100.nccl.pairs
    algorithm = taken(H100.nccl, "all_to_all", ranks * MiB, ways(ranks))
    assert (algorithm.pattern, algorithm.bytes_per_pair) == ("all_pairs", MiB)
    channel_s = 64 * KiB / pairs.channel_bandwidth
    assert algorithm.fixed_s == pytest.approx(pairs.t0 + (ranks - 2) * pairs.t_peer + channel_s)
    assert taken(H100.nccl, "send_recv", MiB, ways(ranks)).pattern == "pair"


def test_between_machines_every_step_takes_longer():
    """Of 2 (n - 1) steps of an all-reduce on two machines 2 go over the network."""
    near, far = (
        taken(H100.nccl, "all_reduce", 64 * MiB, ways(4, num_nodes=nodes, is_switched=False)) for nodes in (1, 2)
    )
    assert far.fixed_s - near.fixed_s == pytest.approx(2 * H100.nccl.t_network)
    near, far = (taken(H100.nccl, "send_recv", MiB, ways(2, num_nodes=nodes)) for nodes in (1, 2))
    assert far.fixed_s - near.fixed_s == pytest.approx(13 * us)


def test_who_takes_the_engine_s_own():
    """Below its limit, of ranks that all reach each other over scale-up links; two may do so in any way."""
    assert own(256 * KiB - 16, ways()) == ["one_shot"]
    assert own(256 * KiB, ways()) == ["multicast"]
    assert own(64 * MiB + 16, ways()) == []
    assert own(1e3, ways(is_direct=False)) == []
    assert own(1e3, ways(2, is_direct=False, is_switched=False)) == ["one_shot"]
    assert own(1e3, ways(3)) == []
    assert own(1e3, ways(num_nodes=2)) == []
    assert own(256 * KiB, ways(), A100.engine_all_reduce) == ["two_shot"]
    free = A100.engine_all_reduce.model_copy(update={"two_shot_from": {}})
    assert own(256 * KiB, ways(), free) == ["one_shot", "two_shot"]


def test_an_engine_reads_from_every_peer():
    """One shot moves the buffer over every pair, two shots a piece of it twice."""
    law = A100.engine_all_reduce.model_copy(update={"two_shot_from": {}})
    one, two = own_algorithms(law, "all_reduce", np.array([1e6]), ways(4))
    assert one.fixed_s == pytest.approx(law.t0 + 3 * law.t_peer + law.t_spread, rel=1e-12)
    assert two.fixed_s == pytest.approx(one.fixed_s + law.t_barrier, rel=1e-12)
    assert (one.pattern, one.bytes_per_pair, two.pattern, two.bytes_per_pair) == ("all_pairs", 1e6, "all_pairs", 5e5)


def test_a_shared_buffer_costs_two_copies():
    """In and out of it: each reads and writes the data."""
    law = H100.engine_all_reduce
    (few,) = [a for a in own_algorithms(law, "all_reduce", np.array([1.0 * MiB]), ways()) if np.all(a.usable)]
    (fast,) = [
        a
        for a in own_algorithms(law, "all_reduce", np.array([1.0 * MiB]), replace(ways(), hbm_bandwidth=1e30))
        if np.all(a.usable)
    ]
    assert few.fixed_s - fast.fixed_s == pytest.approx(2 * 2 * MiB / 3.35e12)
    assert few.bytes_per_pair == 9 / 8 * MiB
