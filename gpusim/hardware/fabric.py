"""The fabric: traffic over the links of the machine, sharing links and memory banks max-min fairly."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations

import networkx as nx
import numpy as np
import simpy

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.core.clock import Clock, ticks
from gpusim.core.component import Component
from gpusim.core.probe import Probe
from gpusim.hardware.bandwidth_use import Moved
from gpusim.hardware.flow import Ask, Flow, Loads, PacedMemory
from gpusim.hardware.link_account import LinkAccount
from gpusim.hardware.routes import Route, Routes
from gpusim.hardware.sharing import Sharing
from gpusim.hardware.speeds import Elastic

__all__ = ["Fabric", "Flow", "Loads", "Stream"]


@dataclass(frozen=True, slots=True)
class Stream:
    """Background traffic at a constant rate, without end."""

    flow: Flow
    stop: Callable[[], None]
    """Ends it; its bytes up to then are counted."""


class Fabric(Component):
    """The links of one machine and the flows on them.

    Its resources are the links, by edge index, followed by the memory banks.

    Args:
        clock: The clock of the simulation.
        name: Row of its spans.
        graph: From `gpusim.hardware.graph.build_graph`.
        banks: Memory banks by node name; traffic can load them too.
        ideal: Links give their peak, not their payload efficiency.
        probes: Shared by all components.
    """

    def __init__(
        self,
        clock: Clock,
        name: str,
        graph: nx.MultiDiGraph[str],
        banks: Mapping[str, PacedMemory] | None = None,
        *,
        ideal: bool = False,
        probes: list[Probe] | None = None,
    ) -> None:
        super().__init__(clock, name, probes)
        self.routes = Routes(graph, ideal=ideal)
        self.links = self.routes.links
        banks = {} if banks is None else banks
        self._bank_of = {node: len(self.links) + number for number, node in enumerate(banks)}
        by_resource = {self._bank_of[node]: bank for node, bank in banks.items()}
        self.capacity: FloatArray = np.array(self.routes.capacity + [bank.bandwidth for bank in banks.values()])
        """Bytes/s of each resource."""
        self._peak: FloatArray = np.concatenate(
            [[link.bandwidth for link in self.links], self.capacity[len(self.links) :]]
        )
        kinds = [link.kind for link in self.links]
        account = LinkAccount(len(self.capacity), kinds, self._peak)
        self._sharing = Sharing(clock, self.capacity, account, by_resource, self._show)
        self._names = [link.name for link in self.links] + [bank.name for bank in banks.values()]

    def route(self, source: str, target: str) -> Route:
        """Return the links between two nodes; see `Routes.route`."""
        return self.routes.route(source, target)

    def direct_bandwidth(self, source: str, target: str) -> float:
        """Return the bytes/s of links from *source* to *target* themselves; 0 if they meet over other nodes."""
        return self.routes.direct_bandwidth(source, target)

    def passes(self, source: str, target: str, kind: str) -> bool:
        """Whether a node of *kind* lies between *source* and *target*; see `Routes.passes`."""
        return self.routes.passes(source, target, kind)

    def are_scale_up_connected(self, nodes: Sequence[str]) -> bool:
        """Whether scale-up links alone lead from each of *nodes* to each other."""
        return all(self.routes.by_scale_up(source, target) for source, target in permutations(nodes, 2))

    def loads(self, traffic: Iterable[tuple[str, str, float]], *, memory: bool) -> Loads:
        """Return what *traffic* moves over each resource.

        Args:
            traffic: (source node, target node, bytes) of each part; all parts advance together.
            memory: Whether the bytes are also read from the source's memory bank and written to the target's. A copy
                within a node then loads its bank twice; without *memory* it loads nothing.

        Raises:
            TopologyError: If a source does not reach its target.
        """
        return self._loads(traffic, is_read=memory, is_written=memory)

    def reads(self, traffic: Iterable[tuple[str, str, float]]) -> Loads:
        """Return `loads` of bytes that the target's processors use as they arrive: only the read loads a memory."""
        return self._loads(traffic, is_read=True, is_written=False)

    def writes(self, traffic: Iterable[tuple[str, str, float]]) -> Loads:
        """Return `loads` of bytes whose read loads no memory: only the write does."""
        return self._loads(traffic, is_read=False, is_written=True)

    def together(self, parts: Iterable[Loads]) -> Loads:
        """Return what several pieces of traffic load when they move at the same time."""
        amounts, parts = np.zeros(len(self.capacity)), tuple(parts)
        for part in parts:
            amounts[part.index] += part.amounts
        size_bytes = math.fsum(part.size_bytes for part in parts)
        latency_s = max(part.latency_s for part in parts)
        return Loads.of(amounts, self.capacity, len(self.links), size_bytes, latency_s)

    def peak_s(self, loads: Loads) -> float:
        """Return the seconds *loads* would take if every link gave its peak."""
        return float((loads.amounts / self._peak[loads.index]).max(initial=0.0))

    def _loads(self, traffic: Iterable[tuple[str, str, float]], *, is_read: bool, is_written: bool) -> Loads:
        amounts = np.zeros(len(self.capacity))
        total_bytes = latency_s = 0.0
        for source, target, size_bytes in traffic:
            route = self.routes.route(source, target)
            amounts[route.edges] += size_bytes * route.fractions
            total_bytes += size_bytes
            latency_s = max(latency_s, route.latency_s)
            for node, used in ((source, is_read), (target, is_written)):
                if used and node in self._bank_of:
                    amounts[self._bank_of[node]] += size_bytes
        return Loads.of(amounts, self.capacity, len(self.links), total_bytes, latency_s)

    def transfer(
        self,
        loads: Loads,
        *,
        ideal_s: float | None = None,
        rate_cap: float | None = None,
        latency_s: float = 0.0,
        name: str = "",
    ) -> Flow:
        """Start to move *loads* once; wait for ``done`` of the flow that is returned.

        Args:
            loads: From `loads`.
            ideal_s: Seconds a law gives the bytes on an idle fabric. What it takes above ``loads.ideal_s`` keeps the
                links busy: two such flows on one link need twice as long each. A law faster than the links is held
                to them.
            rate_cap: Bytes/s of ``loads.size_bytes`` the ends can handle; a flow at its cap leaves the rest of the
                links to others.
            latency_s: Passes before the first byte moves; loads nothing.
            name: What probes are told that it is.
        """
        occupied_s = loads.ideal_s if ideal_s is None else max(ideal_s, loads.ideal_s)
        occupation = occupied_s / loads.ideal_s if loads.ideal_s > 0.0 else 1.0
        capped_s = 0.0 if rate_cap is None else loads.size_bytes / rate_cap
        flow = Flow(loads, max(occupied_s, capped_s), self.clock.event(), occupation)
        self._sharing.join_after(flow, ticks(latency_s))
        if self.probes:
            assert flow.done.callbacks is not None
            flow.done.callbacks.append(partial(self._emit_flow, name))
        return flow

    def stream(self, loads: Loads, rate: float) -> Stream:
        """Move *loads* again and again at *rate* bytes/s of its size, less where links are full, until stopped."""
        ideal_s = max(loads.ideal_s, loads.size_bytes / rate if rate > 0.0 else math.inf)
        flow = Flow(loads, ideal_s, self.clock.event(), endless=True)
        self._sharing.join_after(flow, 0)
        return Stream(flow, partial(self._sharing.stop, flow))

    def speeds(self, asks: Sequence[Ask], kernels: Elastic = ()) -> list[float]:
        """Return the speeds that flows would have together, on a fabric with nothing else.

        Args:
            asks: What each asks for.
            kernels: Memory resources that `asks` load, and the number of kernels there.
        """
        return list(self._sharing.speeds.of(tuple(asks), kernels))

    def memory_resource(self, node: str) -> int:
        """Return the resource that the memory bank of *node* is."""
        return self._bank_of[node]

    def account(self, loads: Loads, times: float, link_s: float, start: int, end: int) -> None:
        """Count *loads*, moved a number of *times* in *link_s* seconds each by a caller who knew that it was alone.

        It moved between ticks *start* and *end*.
        """
        self._sharing.count(loads, times, link_s, start, end)

    def account_steps(self, loads: Loads, times: FloatArray, link_s: float, starts: IntArray, ends: IntArray) -> None:
        """Count *loads* moved in many steps, see `account`; *times*, *starts* and *ends* are of each (steps,)."""
        self._sharing.count_steps(loads, times, link_s, starts, ends)

    def moved_bytes(self) -> dict[str, float]:
        """Return the bytes each link has moved up to now, by its name."""
        self._sharing.settle()
        moved_bytes = self._sharing.account.moved_bytes()
        return {link.name: float(moved_bytes[edge]) for edge, link in enumerate(self.links)}

    def busy_s(self) -> dict[str, float]:
        """Return how long each link would have needed at full rate for what it has carried, by its name."""
        self._sharing.settle()
        busy_s = self._sharing.account.busy_s()
        return {link.name: float(busy_s[edge]) for edge, link in enumerate(self.links)}

    def moved(self) -> dict[str, list[Moved]]:
        """Return for each kind of link what those moved that moved anything, in seconds at peak bandwidth."""
        self._sharing.settle()
        account = self._sharing.account
        moved_bytes = account.moved_bytes()
        used = Counter(link.kind for edge, link in enumerate(self.links) if moved_bytes[edge])
        return {kind: [Moved(account.over_time[kind], 1.0, number)] for kind, number in used.items()}

    def _emit_flow(self, name: str, done: simpy.Event) -> None:
        flow = done.value
        assert isinstance(flow, Flow)
        loads = flow.loads
        self.emit(
            "flow",
            flow.start,
            name=name,
            size_bytes=loads.size_bytes,
            disturbed=flow.disturbed,
            bytes_on={self._names[r]: size for r, size in zip(loads.resources, loads.amounts.tolist(), strict=True)},
        )

    def _show(self, flows: Iterable[Flow]) -> None:
        """Tell probes the bytes/s that flows move over each of the links and memory banks of *flows*."""
        if self.probes:
            for resource in dict.fromkeys(resource for flow in flows for resource in flow.loads.resources):
                rate = math.fsum(flow.speed * flow.loads.on(resource) for flow in self._sharing.flows_at(resource))
                for probe in self.probes:
                    probe.counter_ticks(self._names[resource], "bytes_per_s", self.clock.now, rate)
