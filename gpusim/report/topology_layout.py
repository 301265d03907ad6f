"""Where the parts of a machine are drawn: in tiers, from what is nearest to the GPUs' own fabric down to the network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import networkx as nx

from gpusim.hardware.graph import links_of

Graph: TypeAlias = "nx.MultiDiGraph[str]"

_FABRIC: Final = frozenset({"nvlink", "xgmi", "ici", "c2c"})
_POOL, _SWITCH, _GPU, _PCIE, _NIC, _HOST, _NETWORK = range(7)


@dataclass(frozen=True, slots=True)
class Node:
    """A part of the machine, or several that are alike, drawn as one."""

    name: str
    members: tuple[str, ...]
    kind: str
    tier: int
    """From the top, 0 on; tiers that are empty do not count."""
    place: float
    """From left to right, in (0, 1)."""


@dataclass(slots=True)
class Edge:
    """The links of one kind between two nodes, both directions."""

    ends: tuple[str, str]
    kind: str
    names: list[str] = field(default_factory=list)
    """Of the one-directional links, as utilisation has them."""


def lay_out(graph: Graph, most: int) -> tuple[list[Node], list[Edge]]:
    """Return nodes and edges of *graph*; of a tier with more than *most* nodes, those that are named alike are one."""
    tiers: dict[int, list[str]] = {}
    for name in graph:
        tiers.setdefault(_tier(graph, name), []).append(name)
    nodes = []
    for row, tier in enumerate(sorted(tiers)):
        groups = _groups(tiers[tier], most)
        for place, (label, members) in enumerate(groups.items()):
            kind = graph.nodes[members[0]]["kind"]
            nodes.append(Node(label, tuple(members), kind, row, (place + 0.5) / len(groups)))
    return nodes, _edges(graph, {member: node.name for node in nodes for member in node.members})


def _tier(graph: Graph, name: str) -> int:
    kind = graph.nodes[name]["kind"]
    kinds = {key for _, _, key in [*graph.out_edges(name, keys=True), *graph.in_edges(name, keys=True)]}
    if kind == "switch":
        return _SWITCH if kinds & _FABRIC else _PCIE if "pcie" in kinds else _NETWORK
    if kind == "memory":
        return _POOL if kinds & _FABRIC else _HOST
    return {"gpu": _GPU, "nic": _NIC, "host": _HOST}[kind]


def _groups(names: list[str], most: int) -> Mapping[str, list[str]]:
    if len(names) <= most:
        return {name: [name] for name in names}
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"\d+$", "", name), []).append(name)
    return {f"{stem} × {len(members)}" if len(members) > 1 else members[0]: members for stem, members in groups.items()}


def _edges(graph: Graph, drawn_as: Mapping[str, str]) -> list[Edge]:
    edges: dict[Any, Edge] = {}
    for link in links_of(graph):
        ends = tuple(sorted((drawn_as[link.source], drawn_as[link.target])))
        edge = edges.setdefault((*ends, link.kind), Edge((ends[0], ends[1]), link.kind))
        edge.names.append(link.name)
    return list(edges.values())
