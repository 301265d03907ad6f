"""Algorithms of collectives: their fixed times and traffic, by the formulas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.laws.collectives import calibrated_algorithms, ideal_algorithms, ring_bytes
from gpusim.units import MiB
from machines import catalog_device

H100 = laws_of(catalog_device("h100-sxm"))


def algorithms(operation="all_reduce", ranks=8, size=1e6, laws=H100, direct=True):
    return calibrated_algorithms(operation, ranks, size, laws, direct=direct, hbm_bandwidth=3.35e12)


def names(**options):
    return [algorithm.name for algorithm in algorithms(**options)]


@given(ranks=st.integers(2, 64), size=st.floats(1, 1e9))
def test_a_ring_sends_every_byte_but_its_own(ranks, size):
    """Reduce-scatter and all-gather each send (n - 1) / n of the buffer; two ranks all-reduce by sending all of it."""
    assert ring_bytes("all_gather", ranks, size) == pytest.approx((ranks - 1) / ranks * size)
    assert ring_bytes("all_reduce", ranks, size) == pytest.approx(2 * ring_bytes("all_gather", ranks, size))
    assert ring_bytes("all_reduce", 2, size) == size


@given(ranks=st.integers(2, 64))
def test_an_ideal_ring_takes_its_hops(ranks):
    """2 (n - 1) hops for an all-reduce, n - 1 for an all-gather, at peak."""
    (reduce,) = ideal_algorithms("all_reduce", ranks, 1e6, 3e-6)
    (gather,) = ideal_algorithms("all_gather", ranks, 1e6, 3e-6)
    assert reduce.fixed_s == pytest.approx(2 * (ranks - 1) * 3e-6)
    assert gather.fixed_s == pytest.approx((ranks - 1) * 3e-6)
    assert reduce.efficiency == gather.efficiency == 1.0


def test_who_takes_the_engine_s_own():
    """An all-reduce up to its limit, of ranks that all reach each other over scale-up links, on a GPU that has it."""
    own, nccl = ["one_shot", "two_shot"], ["nccl_ll", "nccl_simple"]
    assert names(size=8 * MiB) == own
    assert names(size=8 * MiB + 1) == nccl
    assert names(direct=False) == nccl
    assert names(operation="all_gather") == nccl
    assert names(laws=laws_of(catalog_device("rtx-pro-6000-server"))) == nccl


def test_nccl_pays_for_its_hops_and_for_the_bandwidth_protocol():
    """t_base + t_hop 2 (n - 1), and t_simple more; the low-latency protocol has a part of the links."""
    low_latency, simple = algorithms(ranks=4, direct=False)
    law = H100.nccl
    assert low_latency.fixed_s == pytest.approx(law.t_base + 6 * law.t_hop, rel=1e-12)
    assert simple.fixed_s == pytest.approx(low_latency.fixed_s + law.t_simple, rel=1e-12)
    assert low_latency.efficiency == pytest.approx(law.ll_fraction * simple.efficiency, rel=1e-12)


def test_an_engine_reads_from_every_peer():
    """One shot moves the buffer over every pair, two shots a piece of it twice; copies go through HBM's peak."""
    one, two = algorithms(ranks=4, size=1e6)
    law = H100.engine_all_reduce
    assert one.fixed_s == pytest.approx(law.t0 + 3 * law.t_peer + law.copies * 2e6 / 3.35e12, rel=1e-12)
    assert two.fixed_s == pytest.approx(one.fixed_s + law.t_barrier, rel=1e-12)
    assert (one.pattern, one.bytes_per_pair, two.pattern, two.bytes_per_pair) == ("all_pairs", 1e6, "all_pairs", 5e5)
