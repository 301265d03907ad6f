"""The machine as a graph: a `TopologySpec` expanded into nodes and one-directional links.

Every full-duplex link of the file becomes two edges. Edges are keyed by kind, so two nodes may be joined by NVLink and
by PCIe at once; entries of one kind between the same two nodes add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import combinations, product

import networkx as nx

from gpusim.errors import TopologyError
from gpusim.spec.topology import LinkKind, LinksSpec, NodeSpec, TopologySpec

FORWARDING = frozenset({"switch", "host", "nic"})
"""Kinds of nodes that pass on what is not for them; GPUs and memory pools never do."""

_SHOWN = 4
"""Names listed in an error before it says how many more there are."""


@dataclass(frozen=True, slots=True)
class Link:
    """One direction of all links of one kind between two nodes."""

    source: str
    target: str
    kind: LinkKind
    bandwidth: float
    """Peak, bytes/s."""
    efficiency: float
    """Payload / peak on large transfers."""
    latency_s: float

    @property
    def name(self) -> str:
        """Where it is, such as ``gpu0->nvswitch1:nvlink``."""
        return f"{self.source}->{self.target}:{self.kind}"


def build_graph(spec: TopologySpec) -> nx.MultiDiGraph[str]:
    """Expand *spec* into its graph.

    Nodes carry ``kind`` and ``spec`` (the entry that made them); edges, keyed by kind, carry ``link`` (a `Link`).

    Raises:
        TopologyError: If names repeat, a link joins nothing or a node to itself, or a GPU cannot reach another.
    """
    nodes = expand_names(spec)
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph(name=spec.name)
    for name, node in nodes.items():
        graph.add_node(name, kind=node.kind, spec=node)
    problems: list[str] = []
    for index, entry in enumerate(spec.links):
        for source, target in _connections(entry, nodes, f"links[{index}] ({entry.kind})", problems):
            _connect(graph, source, target, entry)
    if problems:
        raise _error(spec, problems)
    _check_reach(spec, graph)
    return graph


def expand_names(spec: TopologySpec) -> dict[str, NodeSpec]:
    """Return every node of *spec* by its name, in the order of the file.

    An entry with ``count`` makes ``name0`` to ``name{count - 1}``, one without makes exactly ``name``.

    Raises:
        TopologyError: If two nodes have the same name.
    """
    nodes: dict[str, NodeSpec] = {}
    problems = []
    for index, entry in enumerate(spec.nodes):
        for name in _numbered(entry):
            if name in nodes:
                problems.append(f"nodes[{index}]: there is already a node named {name}; rename one of the two")
            nodes[name] = entry
    if problems:
        raise _error(spec, problems)
    return nodes


def links_of(graph: nx.MultiDiGraph[str]) -> list[Link]:
    """Return the one-directional links of *graph*; their positions are the edge indices used everywhere."""
    return [attributes["link"] for _, _, attributes in graph.edges(data=True)]


def _numbered(entry: NodeSpec) -> Iterable[str]:
    if entry.count is None:
        return (entry.name,)
    return (f"{entry.name}{number}" for number in range(entry.count))


def _connections(entry: LinksSpec, nodes: Iterable[str], where: str, problems: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of nodes *entry* joins, each once; what is wrong with it goes to *problems*."""
    joined: set[frozenset[str]] = set()
    for first, second in entry.pairs if entry.pairs is not None else [entry.between or ("", "")]:
        groups = [[name for name in nodes if _matches(name, pattern)] for pattern in (first, second)]
        for pattern, group in zip((first, second), groups, strict=True):
            if not group:
                problems.append(f"{where}: {pattern!r} matches no node; there are {_listed(nodes)}")
        if groups[0] == groups[1] and len(groups[0]) == 1:
            problems.append(f"{where}: {first} is linked to itself; name two different nodes")
        # A pattern that matches on both sides means every pair of its nodes: neither itself nor each pair twice.
        pairs: dict[frozenset[str], tuple[str, ...]] = {}
        for pair in product(*groups):
            pairs.setdefault(frozenset(pair), pair)
        for key, (one, other) in pairs.items():
            if one == other:
                continue
            if key in joined:
                problems.append(f"{where}: {one} and {other} are listed twice; write count for parallel links")
            joined.add(key)
            yield one, other


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def _connect(graph: nx.MultiDiGraph[str], source: str, target: str, entry: LinksSpec) -> None:
    there = entry.bandwidth
    back = there if entry.back_bandwidth is None else entry.back_bandwidth
    for tail, head, bandwidth in ((source, target, there), (target, source, back)):
        link = Link(tail, head, entry.kind, bandwidth * entry.count, entry.efficiency, entry.latency)
        if graph.has_edge(tail, head, entry.kind):
            link = _side_by_side(graph.edges[tail, head, entry.kind]["link"], link)
        graph.add_edge(tail, head, entry.kind, link=link)


def _side_by_side(one: Link, other: Link) -> Link:
    """Join two parallel links: they carry one flow together, which waits for the slower one."""
    bandwidth = one.bandwidth + other.bandwidth
    usable = one.bandwidth * one.efficiency + other.bandwidth * other.efficiency
    latency_s = max(one.latency_s, other.latency_s)
    return Link(one.source, one.target, one.kind, bandwidth, usable / bandwidth, latency_s)


def _check_reach(spec: TopologySpec, graph: nx.MultiDiGraph[str]) -> None:
    """Raise unless every GPU reaches every other, over nodes that forward."""
    kinds = {name: graph.nodes[name]["kind"] for name in graph}
    backbone = graph.subgraph(name for name, kind in kinds.items() if kind in FORWARDING)
    part_of = {name: part for part, names in enumerate(nx.weakly_connected_components(backbone)) for name in names}
    gpus = [name for name, kind in kinds.items() if kind == "gpu"]
    parts = {gpu: {part_of[name] for name in graph.successors(gpu) if name in part_of} for gpu in gpus}
    for one, other in combinations(gpus, 2):
        if parts[one].isdisjoint(parts[other]) and not graph.has_edge(one, other):
            raise _error(spec, [f"links: {one} cannot reach {other}; {_way_out(graph, one, other)}"])


def _way_out(graph: nx.MultiDiGraph[str], one: str, other: str) -> str:
    components = [part for part in nx.weakly_connected_components(graph) if part & {one, other}]
    if len(components) == 1:
        return "GPUs and memory pools do not forward, so join the two by a link, a switch or a host"
    named = [_listed(name for name in graph if name in part) for part in components]
    return f"no link joins the parts [{named[0]}] and [{named[1]}]; add one"


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more


def _error(spec: TopologySpec, problems: list[str]) -> TopologyError:
    return TopologyError(f"topology {spec.name}:\n" + "\n".join(f"  {problem}" for problem in problems))
