"""Rings through GPUs: wherever links of their own lead, along the widest, using up what is left."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.runtime.rings import MAX_SEARCHED_RANKS, ring_traffic, rings, widest_ring
from machines import Machine


def arrows(ring):
    return [*pairwise(ring), (ring[-1], ring[0])]


def brute_force_width(ranks, width):
    """The widest ring through all ranks, by trying every order."""
    orders = ((ranks[0], *rest) for rest in permutations(ranks[1:]))
    return max(min(width[arrow] for arrow in arrows(order)) for order in orders)


@settings(max_examples=40)
@given(data=st.data(), count=st.integers(2, 5))
def test_the_widest_ring_is_the_widest_of_all(data, count):
    """The search finds what trying every order finds; nothing where every order has a gap."""
    ranks = [f"gpu{i}" for i in range(count)]
    width = {pair: float(data.draw(st.integers(0, 4))) for pair in permutations(ranks, 2)}
    best, found = brute_force_width(ranks, width), widest_ring(ranks, width)
    if best == 0:
        assert found is None
    else:
        assert found[0] == best == min(width[arrow] for arrow in arrows(found[1]))
        assert sorted(found[1]) == ranks


@settings(max_examples=40)
@given(data=st.data(), count=st.integers(2, 5))
def test_rings_never_use_a_link_twice_over(data, count):
    """Each ring visits every rank once, shares sum to 1, and together they carry at least what the widest one does."""
    ranks = [f"gpu{i}" for i in range(count)]
    width = {pair: float(data.draw(st.integers(0, 4))) for pair in permutations(ranks, 2)}
    found = rings(ranks, lambda a, b: width[a, b])
    assert sum(share for share, _ in found) == pytest.approx(1.0)
    assert all(sorted(ring) == ranks for _, ring in found)
    used = Counter()
    for share, ring in found:
        used.update(dict.fromkeys(arrows(ring), share))
    if widest := brute_force_width(ranks, width):
        together = min(width[pair] / used[pair] for pair in used)
        assert together >= widest * (1 - 1e-12)


@pytest.mark.parametrize(
    "gpus", [range(8), (0, 1, 2, 3), (4, 5, 6, 7), (0, 3, 7, 4), (0, 4), (1, 0, 3, 2), (0, 2, 6, 4)]
)
def test_a_cube_mesh_has_nvlink_rings(gpus):
    """Groups of a DGX-1V that NVLink can ring are rung by NVLink only."""
    fabric = Machine("dgx-1v").cluster.fabric
    ranks = [f"gpu{i}" for i in gpus]
    for _, ring in rings(ranks, fabric.direct_bandwidth):
        for arrow in arrows(ring):
            assert {fabric.links[edge].kind for edge in fabric.route(*arrow).edges} == {"nvlink"}


def test_eight_gpus_of_a_cube_mesh_have_four_rings():
    """Twice along the double links and twice along the single ones, one each way: 2 : 2 : 1 : 1."""
    found = rings([f"gpu{i}" for i in range(8)], Machine("dgx-1v").cluster.fabric.direct_bandwidth)
    assert [share for share, _ in found] == pytest.approx([1 / 3, 1 / 3, 1 / 6, 1 / 6])
    assert len({arrow for _, ring in found for arrow in arrows(ring)}) == 32


@pytest.mark.parametrize("topology", ["dgx-h100", "pcie-4gpu-2root"])
def test_through_switches_one_ring_in_rank_order(topology):
    """Without links from GPU to GPU the ring follows the ranks."""
    fabric = Machine(topology).cluster.fabric
    ranks = ["gpu2", "gpu0", "gpu1"]
    assert rings(ranks, fabric.direct_bandwidth) == [(1.0, tuple(ranks))]


def test_large_groups_are_not_searched():
    """Above the limit the ring follows the ranks even on a full mesh."""
    ranks = [f"gpu{i}" for i in range(MAX_SEARCHED_RANKS + 1)]
    assert rings(ranks, lambda *_: 1.0) == [(1.0, tuple(ranks))]


def test_traffic_is_shared_among_rings():
    """Every arrow of a ring carries the ring's share; every rank sends all of its bytes."""
    found = [(0.75, ("a", "b", "c")), (0.25, ("a", "c", "b"))]
    traffic = ring_traffic(found, 100.0)
    assert len(traffic) == 6
    assert {source: sum(size for s, _, size in traffic if s == source) for source in "abc"} == dict.fromkeys(
        "abc", 100.0
    )
