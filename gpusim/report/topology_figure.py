"""The machine of a run: links coloured by how busy they were, nodes by their memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gpusim.hardware.graph import build_graph
from gpusim.report.figures import need_altair
from gpusim.report.numbers import digits
from gpusim.report.theme import BLUE, GREY, INK, MUTED, ORANGE, PAPER, SKY, VERMILLION
from gpusim.report.topology_layout import Edge, Node, lay_out
from gpusim.results.result import Result
from gpusim.spec.topology import TopologySpec

_CLASSES: Final = (
    ("idle", 0.0005, GREY, 1.0),
    ("below 10 %", 0.1, SKY, 2.0),
    ("10 to 50 %", 0.5, BLUE, 3.0),
    ("50 to 80 %", 0.8, ORANGE, 4.0),
    ("80 % and more", 2.0, VERMILLION, 5.0),
)
"""How busy: name, below which part of the time, colour, width of a line in pixels."""
_TIER: Final = 118
"""Pixels from tier to tier."""
_BOX: Final = 46
"""Height of a node."""
_NODE: Final = 70
"""Least pixels of a tier for a node whose numbers are spelt out."""
_BEND: Final = 14
"""Points of a link between two nodes of one tier."""


def topology(result: Result, width: int) -> Any:
    """Return the machine of *result*, in a figure *width* pixels wide."""
    alt = need_altair()
    use = result.summary()["utilisation"]
    graph = build_graph(TopologySpec.model_validate(result.record.scenario["topology"]))
    inner = width - 16
    nodes, edges = lay_out(graph, max(8, inner // _NODE), lambda name: _class(_busiest(_parts(name), use))[0])
    height = (max(node.tier for node in nodes) + 1) * _TIER
    spot = {node.name: (node.place * inner, (node.tier + 0.5) * _TIER) for node in nodes}
    scales = (
        {"scale": alt.Scale(domain=(0, inner), nice=False), "axis": None},
        {"scale": alt.Scale(domain=(height, 0), nice=False), "axis": None},
    )
    layers = [_links(alt, edges, use, spot, scales), *_boxes(alt, nodes, use, inner, scales)]
    return alt.layer(*layers).properties(width=inner, height=height)


def _links(
    alt: Any, edges: Iterable[Edge], use: Mapping[str, float], spot: Mapping[str, tuple[float, float]], scales: Any
) -> Any:
    rows = []
    # The busiest ones are drawn last, on top.
    for number, (busy, edge) in enumerate(
        sorted(((_busiest(e.names, use), e) for e in edges), key=lambda pair: pair[0])
    ):
        what, _, thickness = _class(busy)
        text = f"{edge.ends[0]} – {edge.ends[1]}, {edge.kind}: {_percent(busy)} in its busier direction"
        rows += [
            {"link": number, "step": step, "x": x, "y": y, "use": what, "text": text, "width": thickness}
            for step, (x, y) in enumerate(_path(*(spot[end] for end in edge.ends)))
        ]
    color = alt.Color(
        "use:N",
        scale=alt.Scale(domain=[name for name, *_ in _CLASSES], range=[colour for _, _, colour, _ in _CLASSES]),
        legend=alt.Legend(orient="bottom", columns=3, symbolType="stroke", symbolStrokeWidth=4),
    )
    x, y = scales
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_line()
        .encode(
            x=alt.X("x:Q", **x),
            y=alt.Y("y:Q", **y),
            color=color,
            strokeWidth=alt.StrokeWidth("width:Q", scale=None, legend=None),
            detail="link:N",
            order="step:Q",
            tooltip="text:N",
            description="text:N",
        )
    )


def _boxes(alt: Any, nodes: Iterable[Node], use: Mapping[str, float], inner: float, scales: Any) -> list[Any]:
    counts: dict[int, int] = {}
    nodes = list(nodes)
    for node in nodes:
        counts[node.tier] = counts.get(node.tier, 0) + 1
    rows = []
    for node in nodes:
        room = inner / counts[node.tier]
        half = min(56.0, room / 2 - 2)
        at_x, at_y = node.place * inner, (node.tier + 0.5) * _TIER
        memory = [use[f"{member}.memory"] for member in node.members if f"{member}.memory" in use]
        busy = max(memory, default=0.0)
        rows.append(
            {
                "x": at_x - half,
                "x2": at_x + half,
                "y": at_y - _BOX / 2,
                "y2": at_y + _BOX / 2,
                "mid": at_x,
                "top": at_y - (8 if memory else 0),
                "low": at_y + 10,
                "name": node.name
                if len(node.name) * 7 < room
                else node.name.strip("abcdefghijklmnopqrstuvwxyz") or node.name[:5],
                "colour": _class(busy)[1] if memory else MUTED,
                "memory": _memory(node, busy, is_short=room < _NODE) if memory else "",
                "text": _tooltip(node, use),
            }
        )
    x, y = scales
    base = alt.Chart(alt.Data(values=rows))
    box = base.mark_rect(fill=PAPER, strokeWidth=2, cornerRadius=4).encode(
        x=alt.X("x:Q", **x),
        x2="x2:Q",
        y=alt.Y("y:Q", **y),
        y2="y2:Q",
        stroke=alt.Stroke("colour:N", scale=None),
        tooltip="text:N",
        description="text:N",
    )
    name = base.mark_text(color=INK, fontSize=12, fontWeight=600).encode(x="mid:Q", y="top:Q", text="name:N")
    memory = base.mark_text(color=INK, fontSize=12).encode(x="mid:Q", y="low:Q", text="memory:N")
    return [box, name, memory]


def _path(one: tuple[float, float], other: tuple[float, float]) -> list[tuple[float, float]]:
    """Return a straight line, or in one tier an arc above what lies in between."""
    (x1, y1), (x2, y2) = one, other
    if y1 != y2:
        return [one, other]
    rise = min(0.72 * _TIER, 26 + 0.3 * abs(x2 - x1))
    steps = [step / _BEND for step in range(_BEND + 1)]
    return [(x1 + (x2 - x1) * t, y1 - rise * 4 * t * (1 - t)) for t in steps]


def _busiest(names: Iterable[str], use: Mapping[str, float]) -> float:
    return max((use.get(name, 0.0) for name in names), default=0.0)


def _class(busy: float) -> tuple[str, str, float]:
    """Return name, colour and width of what is *busy* for this part of the time."""
    return next((name, colour, width) for name, below, colour, width in _CLASSES if busy < below)


def _parts(name: str) -> tuple[str, str]:
    """Return what of the node *name* can be busy."""
    return f"{name}.memory", f"{name}.compute"


def _memory(node: Node, busy: float, *, is_short: bool) -> str:
    """Say how busy the memory of *node* was; of many, the busiest."""
    if is_short:
        return f"{busy:.0%}"
    return f"memory {'≤ ' if len(node.members) > 1 and busy else ''}{_percent(busy)}"


def _tooltip(node: Node, use: Mapping[str, float]) -> str:
    parts = [f"{name}: {_percent(use[name])}" for m in node.members for name in _parts(m) if name in use]
    return "; ".join(parts[:8]) or node.name


def _percent(part: float) -> str:
    return f"{digits(part, 100)} %"
