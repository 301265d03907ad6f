"""The drawing of a machine: parts in tiers, and of many alike one."""

from itertools import pairwise

import pytest

from gpusim.hardware.graph import build_graph, links_of
from gpusim.open_run import open_run
from gpusim.report.run_figures import NARROW, WIDE
from gpusim.report.topology_figure import topology
from gpusim.report.topology_layout import lay_out
from gpusim.spec.topology import TopologySpec

RACK = {
    "topology": "gb200-nvl72",
    "serving.tensor_parallel_size": 8,
    "workload.num_requests": 4,
}


@pytest.fixture(scope="module")
def rack():
    """Return a run on 8 of the 72 GPUs of a rack."""
    return open_run("chat", RACK)


def graph_of(result):
    """Return the machine of *result*."""
    return build_graph(TopologySpec.model_validate(result.record.scenario["topology"]))


def test_every_part_and_link_is_drawn_once(rack):
    """Grouped or not, nothing of the machine is lost or drawn twice."""
    graph = graph_of(rack)
    for most in (8, 100):
        nodes, edges = lay_out(graph, most)
        assert sorted(member for node in nodes for member in node.members) == sorted(graph)
        assert sorted(name for edge in edges for name in edge.names) == sorted(link.name for link in links_of(graph))
        assert all(0 < node.place < 1 for node in nodes)


def test_a_rack_is_a_few_boxes(rack):
    """More parts than fit are drawn as one, told apart by what they did."""
    nodes, edges = lay_out(graph_of(rack), 8, lambda name: name in {f"gpu{number}" for number in range(8)})
    assert [node.name for node in nodes] == ["nvswitch × 18", "gpu0–7", "gpu8–71", "cpu × 36"]
    assert [node.tier for node in nodes] == [0, 1, 1, 2]
    assert len(edges) == 4


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_boxes_do_not_overlap(rack, width):
    """Boxes of one tier lie side by side within the figure, at both widths."""
    layers = topology(rack, width).to_dict()["layer"]
    boxes = next(layer["data"]["values"] for layer in layers if "x2" in layer["encoding"])
    for one, other in pairwise(boxes):
        assert one["y"] != other["y"] or one["x2"] <= other["x"]
    assert all(box["x"] >= 0 and box["x2"] <= width for box in boxes)
    assert {box["name"] for box in boxes} >= {"gpu0–7", "gpu8–71"}
