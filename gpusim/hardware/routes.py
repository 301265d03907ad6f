"""Routes: which links a flow between two nodes uses, and which fraction of it each carries."""

from __future__ import annotations

import math
from dataclasses import dataclass

import networkx as nx
import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.errors import TopologyError
from gpusim.hardware.graph import FORWARDING, links_of

SCALE_UP = frozenset({"nvlink", "xgmi", "ici"})
"""Links among the GPUs of one node or rack; used alone where they join the two ends. NVLink-C2C leads to a CPU."""


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """The links from *source* to *target*; the flow is conserved at every node between."""

    source: str
    target: str
    edges: IntArray
    """Indices of the links used, shape (hops and stripes,)."""
    fractions: FloatArray
    """Fraction of the flow on each of `edges`."""
    latency_s: float
    """Sum over the hops of the slowest stripe."""
    num_hops: int


class Routes:
    """All routes of one machine, found when first asked for.

    A flow takes the paths with the fewest hops, over scale-up links alone where they join the two ends. Where several
    next hops are on such a path it splits in proportion to what each can still carry to the target (weighted
    equal-cost multipath; Zhou et al., 2014, "WCMP: weighted cost multipathing for improved fairness in data centers").
    For stripes that share no link this is in proportion to the bottleneck bandwidth of each.

    Args:
        graph: From `build_graph`.
        ideal: Take links at their peak, not at their payload efficiency.
    """

    def __init__(self, graph: nx.MultiDiGraph[str], *, ideal: bool = False) -> None:
        self.links = links_of(graph)
        self.capacity: list[float] = [link.bandwidth * (1.0 if ideal else link.efficiency) for link in self.links]
        """Bytes/s each link can carry."""
        self._kinds: dict[str, str] = {name: graph.nodes[name]["kind"] for name in graph}
        self._forwards = {name: kind in FORWARDING for name, kind in self._kinds.items()}
        self._into: dict[str, list[int]] = {name: [] for name in graph}
        for edge, link in enumerate(self.links):
            self._into[link.target].append(edge)
        self._next_hops: dict[tuple[str, bool], dict[str, list[int]]] = {}
        self._routes: dict[tuple[str, str], Route] = {}

    def route(self, source: str, target: str) -> Route:
        """Return the route from *source* to *target*; within one node it has no links.

        Raises:
            TopologyError: If one of the two does not exist or no path joins them.
        """
        route = self._routes.get((source, target))
        if route is None:
            route = self._routes[source, target] = self._find(source, target)
        return route

    def by_scale_up(self, source: str, target: str) -> bool:
        """Whether scale-up links alone lead from *source* to *target*."""
        return source in self._hops_towards(target, scale_up=True)

    def passes(self, source: str, target: str, kind: str) -> bool:
        """Whether a node of *kind* (``switch``, ``host``, ``nic``) lies between *source* and *target*."""
        between = (self.links[edge].target for edge in self.route(source, target).edges.tolist())
        return any(self._kinds[node] == kind for node in between if node != target)

    def direct_bandwidth(self, source: str, target: str) -> float:
        """Return the bytes/s of the links from *source* to *target* themselves; 0 if the route has nodes between."""
        edges = self.route(source, target).edges.tolist()
        if any(self.links[edge].target != target for edge in edges):
            return 0.0
        return float(sum(self.capacity[edge] for edge in edges))

    def _find(self, source: str, target: str) -> Route:
        for name in (source, target):
            if name not in self._into:
                raise TopologyError(f"there is no node {name}; nodes are {', '.join(self._into)}")
        if source == target:
            return Route(source, target, np.zeros(0, np.int64), np.zeros(0), 0.0, 0)
        for scale_up in (True, False):
            hops = self._hops_towards(target, scale_up=scale_up)
            if source in hops:
                return self._stripe(source, target, hops)
        raise TopologyError(f"no links lead from {source} to {target}; GPUs and memory pools do not forward")

    def _hops_towards(self, target: str, *, scale_up: bool) -> dict[str, list[int]]:
        """Return, for each node that reaches *target*, the links that begin its shortest paths."""
        hops = self._next_hops.get((target, scale_up))
        if hops is not None:
            return hops
        hops = {target: []}
        frontier = [target]
        while frontier:
            reached: dict[str, list[int]] = {}
            for node in frontier:
                if node != target and not self._forwards[node]:
                    continue
                for edge in self._into[node]:
                    link = self.links[edge]
                    if link.source not in hops and (link.kind in SCALE_UP or not scale_up):
                        reached.setdefault(link.source, []).append(edge)
            hops |= reached
            frontier = list(reached)
        self._next_hops[target, scale_up] = hops
        return hops

    def _stripe(self, source: str, target: str, hops: dict[str, list[int]]) -> Route:
        """Split the flow at each node in proportion to what its next hops can still carry."""
        nodes = self._between(source, target, hops)
        carries = {target: math.inf}  # bytes/s from the node to the target
        latency_s = {target: 0.0}
        num_hops = {target: 0}
        width: dict[int, float] = {}
        for node in reversed(nodes):
            heads = {edge: self.links[edge].target for edge in hops[node]}
            width |= {edge: min(self.capacity[edge], carries[head]) for edge, head in heads.items()}
            carries[node] = sum(width[edge] for edge in heads)
            num_hops[node] = 1 + max(num_hops[head] for head in heads.values())
            latency_s[node] = max(self.links[edge].latency_s + latency_s[head] for edge, head in heads.items())
        share = dict.fromkeys(carries, 0.0) | {source: 1.0}
        fractions: dict[int, float] = {}
        for node in nodes:
            for edge in hops[node]:
                fractions[edge] = share[node] * width[edge] / carries[node]
                share[self.links[edge].target] += fractions[edge]
        edges = np.array(list(fractions), dtype=np.int64)
        return Route(source, target, edges, np.array(list(fractions.values())), latency_s[source], num_hops[source])

    def _between(self, source: str, target: str, hops: dict[str, list[int]]) -> list[str]:
        """Return the nodes on shortest paths, nearest to *source* first, without *target*."""
        nodes: list[str] = []
        layer = [source]
        while layer != [target]:
            nodes += layer
            layer = list(dict.fromkeys(self.links[edge].target for node in layer for edge in hops[node]))
        return nodes
