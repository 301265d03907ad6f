"""The graph of a topology and the routes on it."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.errors import TopologyError
from gpusim.hardware.graph import build_graph, expand_names, links_of
from gpusim.hardware.routes import Route, Routes
from gpusim.spec.topology import TopologySpec
from gpusim.units import GB, us

GPUS = {"kind": "gpu", "name": "gpu", "count": 8, "device": "x"}


def topology(nodes: list[dict], *links: dict) -> TopologySpec:
    filled = [{"kind": "nvlink", "bandwidth": 25 * GB, "latency": 1 * us} | link for link in links]
    return TopologySpec.model_validate({"name": "test", "nodes": nodes, "links": filled})


def node(kind: str, name: str, count: int | None = None) -> dict:
    device = {"device": "x"} if kind == "gpu" else {}
    return {"kind": kind, "name": name, "count": count} | device


def dgx_a100() -> TopologySpec:
    """Eight GPUs on six NVSwitches, two NVLinks from each to each."""
    return topology([GPUS, node("switch", "sw", 6)], {"between": ["gpu*", "sw*"], "count": 2})


def carried(routes: Routes, route: Route) -> dict[str, float]:
    return {routes.links[e].name: f for e, f in zip(route.edges, route.fractions, strict=True)}


def test_count_numbers_nodes_and_its_absence_does_not():
    """An entry with count 2 makes gpu0 and gpu1, one without makes exactly its name."""
    names = expand_names(topology([node("gpu", "gpu", 2), node("host", "cpu")]))
    assert list(names) == ["gpu0", "gpu1", "cpu"]


def test_link_becomes_one_edge_each_way():
    """Directions carry their own bandwidths, times the parallel links."""
    pair = {"between": ["gpu0", "gpu1"], "count": 3, "bandwidth": 10 * GB, "back_bandwidth": 5 * GB}
    there, back = links_of(build_graph(topology([node("gpu", "gpu", 2)], pair)))
    assert (there.source, there.bandwidth) == ("gpu0", 30 * GB)
    assert (back.source, back.bandwidth) == ("gpu1", 15 * GB)


def test_entries_of_one_kind_add_up():
    """Two entries between the same nodes are one link with both bandwidths and the mean efficiency."""
    one = {"between": ["gpu0", "gpu1"], "bandwidth": 30 * GB, "efficiency": 1.0}
    other = {"pairs": [["gpu1", "gpu0"]], "bandwidth": 10 * GB, "efficiency": 0.6, "latency": 2 * us}
    for link in links_of(build_graph(topology([node("gpu", "gpu", 2)], one, other))):
        assert (link.bandwidth, link.efficiency, link.latency_s) == (40 * GB, pytest.approx(0.9), 2 * us)


def test_pattern_on_both_sides_is_a_full_mesh():
    """gpu* with gpu* joins every pair of eight GPUs once, none to itself."""
    graph = build_graph(topology([GPUS], {"between": ["gpu*", "gpu*"]}))
    assert graph.number_of_edges() == 8 * 7
    assert nx.number_of_selfloops(graph) == 0
    assert {link.bandwidth for link in links_of(graph)} == {25 * GB}


@pytest.mark.parametrize(
    ("nodes", "links", "message"),
    [
        ([GPUS], [{"between": ["gpu*", "sw*"]}], r"links\[0\] \(nvlink\): 'sw\*' matches no node; there are gpu0"),
        ([GPUS], [{"pairs": [["gpu0", "gpu0"]]}], r"links\[0\].*gpu0 is linked to itself"),
        ([GPUS], [{"pairs": [["gpu0", "gpu1"], ["gpu1", "gpu0"]]}], "gpu1 and gpu0 are listed twice"),
        ([GPUS, node("switch", "gpu3")], [], r"nodes\[1\]: there is already a node named gpu3"),
        (
            [node("gpu", "a", 2), node("gpu", "b")],
            [{"between": ["a0", "a1"]}],
            r"a0 cannot reach b; no link joins the parts \[a0, a1\] and \[b\]",
        ),
        ([node("gpu", "a", 3)], [{"pairs": [["a0", "a1"], ["a1", "a2"]]}], "a0 cannot reach a2; GPUs and .* do not"),
    ],
)
def test_wrong_topology_is_one_clear_error(nodes, links, message):
    """The error names the entry that is wrong and the way out."""
    with pytest.raises(TopologyError, match=message):
        build_graph(topology(nodes, *links))


def test_all_wrong_links_are_named_at_once():
    """Two wrong entries make one error with both."""
    wrong = [{"between": ["gpu0", "nic"]}, {"between": ["gpu1", "gpu1"]}]
    with pytest.raises(TopologyError, match=r"(?s)links\[0\].*links\[1\]"):
        build_graph(topology([GPUS], *wrong))


def test_flow_uses_all_six_switches_of_a_dgx_a100():
    """A sixth of the flow goes over each NVSwitch, and the latency is that of two hops."""
    routes = Routes(build_graph(dgx_a100()))
    route = routes.route("gpu2", "gpu5")
    assert carried(routes, route) == pytest.approx(
        {f"gpu2->sw{s}:nvlink": 1 / 6 for s in range(6)} | {f"sw{s}->gpu5:nvlink": 1 / 6 for s in range(6)}
    )
    assert route.latency_s == pytest.approx(2 * us)


def test_stripes_are_in_proportion_to_their_bottlenecks():
    """Over switches whose slower sides are 10 and 30 GB/s a quarter and three quarters flow."""
    spec = topology(
        [node("gpu", "gpu", 2), node("switch", "sw", 2)],
        {"pairs": [["gpu0", "sw0"]], "bandwidth": 50 * GB},
        {"pairs": [["sw0", "gpu1"]], "bandwidth": 10 * GB},
        {"pairs": [["gpu0", "sw1"], ["sw1", "gpu1"]], "bandwidth": 30 * GB, "latency": 3 * us},
    )
    routes = Routes(build_graph(spec))
    route = routes.route("gpu0", "gpu1")
    assert carried(routes, route)["gpu0->sw0:nvlink"] == pytest.approx(0.25)
    assert carried(routes, route)["gpu0->sw1:nvlink"] == pytest.approx(0.75)
    assert route.latency_s == pytest.approx(6 * us)


def test_scale_up_links_are_preferred_to_fewer_hops():
    """Two NVLink hops over a switch beat one PCIe hop; without NVLink the PCIe hop is taken."""
    links = [{"between": ["gpu*", "sw"]}, {"between": ["gpu0", "gpu1"], "kind": "pcie"}]
    routes = Routes(build_graph(topology([node("gpu", "gpu", 2), node("switch", "sw")], *links)))
    assert set(carried(routes, routes.route("gpu0", "gpu1"))) == {"gpu0->sw:nvlink", "sw->gpu1:nvlink"}
    routes = Routes(build_graph(topology([node("gpu", "gpu", 2), node("switch", "sw")], links[1])))
    assert set(carried(routes, routes.route("gpu0", "gpu1"))) == {"gpu0->gpu1:pcie"}


def test_direct_links_and_scale_up_are_told_apart():
    """gpu0 and gpu1 have NVLinks of their own, gpu0 and gpu2 reach each other by NVLink over a switch, gpu3 by PCIe."""
    spec = topology(
        [node("gpu", "gpu", 4), node("switch", "sw"), node("host", "cpu")],
        {"pairs": [["gpu0", "gpu1"]], "count": 2, "efficiency": 0.8},
        {"pairs": [["gpu0", "sw"], ["gpu2", "sw"]]},
        {"between": ["gpu*", "cpu"], "kind": "pcie"},
    )
    routes = Routes(build_graph(spec))
    direct = [routes.direct_bandwidth("gpu0", f"gpu{other}") for other in (1, 2, 3)]
    assert direct == [pytest.approx(40 * GB), 0.0, 0.0]
    assert [routes.by_scale_up("gpu0", f"gpu{other}") for other in (1, 2, 3)] == [True, True, False]


def test_gpus_do_not_forward():
    """In a chain of NVLinks the ends meet over the host, not through the GPU between them."""
    nvlinks = {"pairs": [["gpu0", "gpu1"], ["gpu1", "gpu2"]]}
    spec = topology([node("gpu", "gpu", 3), node("host", "cpu")], nvlinks, {"between": ["gpu*", "cpu"], "kind": "pcie"})
    routes = Routes(build_graph(spec))
    assert set(carried(routes, routes.route("gpu0", "gpu2"))) == {"gpu0->cpu:pcie", "cpu->gpu2:pcie"}


def test_hosts_and_pools_are_ends_too():
    """A pool is reached over a switch; to a node without links there is an error that names both."""
    memory = {"kind": "aggregate", "capacity": 2.0**40, "bandwidth": 100 * GB}
    nodes = [node("gpu", "gpu"), node("switch", "sw"), node("host", "cpu"), node("memory", "pool") | {"memory": memory}]
    routes = Routes(build_graph(topology(nodes, {"between": ["gpu", "sw"]}, {"between": ["pool", "sw"]})))
    assert set(carried(routes, routes.route("pool", "gpu"))) == {"pool->sw:nvlink", "sw->gpu:nvlink"}
    with pytest.raises(TopologyError, match="from gpu to cpu"):
        routes.route("gpu", "cpu")
    with pytest.raises(TopologyError, match="no node gpu7"):
        routes.route("gpu", "gpu7")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1.0, 100.0), min_size=30, max_size=30), st.integers(1, 3), st.integers(1, 4))
def test_flow_is_conserved_at_every_node(bandwidths, leaves, spines):
    """Through a random two-level tree of switches what enters a node leaves it; all of it leaves source and target."""
    take = iter(bandwidths)
    pairs = [(f"leaf{side}{i}", f"spine{s}") for side in (0, 1) for i in range(leaves) for s in range(spines)]
    pairs += [(f"gpu{side}", f"leaf{side}{i}") for side in (0, 1) for i in range(leaves)]
    nodes = [node("gpu", "gpu", 2), node("switch", "leaf0", leaves), node("switch", "leaf1", leaves)]
    links = [{"pairs": [pair], "bandwidth": next(take) * GB} for pair in pairs]
    routes = Routes(build_graph(topology([*nodes, node("switch", "spine", spines)], *links)))
    balance: dict[str, float] = {}
    for edge, fraction in zip(*_used(routes.route("gpu0", "gpu1")), strict=True):
        link = routes.links[edge]
        balance[link.source] = balance.get(link.source, 0.0) - fraction
        balance[link.target] = balance.get(link.target, 0.0) + fraction
    assert (balance.pop("gpu0"), balance.pop("gpu1")) == (pytest.approx(-1), pytest.approx(1))
    assert np.array(list(balance.values())) == pytest.approx(0, abs=1e-12)


def _used(route: Route) -> tuple[list[int], list[float]]:
    assert (route.fractions > 0).all()
    return route.edges.tolist(), route.fractions.tolist()
