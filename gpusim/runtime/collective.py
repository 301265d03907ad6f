"""Collectives of a group of GPUs: timed by their law, carried as flows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import simpy

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.core.clock import Clock, ticks, ticks_array
from gpusim.core.component import Process
from gpusim.hardware.fabric import Fabric, Flow, Loads
from gpusim.model.collectives import AllGather, AllReduce, AllToAll, Among, Collective, ReduceScatter, SendRecv
from gpusim.runtime.attribution import collective_attribution
from gpusim.runtime.connection import connection, laid_rings
from gpusim.runtime.laws.all_reduce import own_algorithms
from gpusim.runtime.laws.collectives import Algorithm, Operation, Pattern, ideal_algorithms
from gpusim.runtime.laws.nccl import nccl_algorithms
from gpusim.runtime.rings import ring_traffic
from gpusim.spec.laws import LawsSpec


@dataclass(frozen=True, slots=True)
class TimedCollective:
    """One collective of the group on idle links."""

    name: str
    operation: Operation
    algorithm: str
    fixed_s: float
    link_s: float
    """Time of its traffic."""
    loads: Loads
    ticks: list[int]
    """[duration on the clock]; a list as in `TimedKernel`."""
    attribution_s: FloatArray
    """(1, categories)"""
    bound_s: FloatArray
    """(1,) Its traffic at the peak of the links."""
    among: Among = "tensor"

    @property
    def full_name(self) -> str:
        """What it does and for what, such as ``all_reduce mlp``."""
        return f"{self.operation} {self.name}"


@dataclass(frozen=True, slots=True)
class CollectiveRows:
    """Collectives of one kind and many sizes on idle links, each with its fastest algorithm; arrays (rows,)."""

    algorithms: list[Algorithm]
    """One a row."""
    fixed_s: FloatArray
    link_s: FloatArray
    """Time of the traffic."""
    pair_bytes: FloatArray
    """Sent along each arrow of the pattern."""
    bound_s: FloatArray
    """The traffic at the peak of the links."""
    ticks: IntArray
    among: Among = "tensor"

    @property
    def attribution_s(self) -> FloatArray:
        """(rows, categories) Where their time goes."""
        return collective_attribution(self.fixed_s + self.link_s)

    def stretched(self, factors: Sequence[float]) -> CollectiveRows:
        """Return the same collectives with the links taking longer by *factors* (rows,)."""
        link_s = self.link_s * np.array(factors)
        return replace(self, link_s=link_s, ticks=ticks_array(self.fixed_s + link_s))

    def traffic(self, pattern: Pattern) -> tuple[FloatArray, FloatArray]:
        """Return bytes on each arrow of *pattern* and the seconds they take, both 0 where another pattern is used."""
        here = np.array([algorithm.pattern == pattern for algorithm in self.algorithms])
        return self.pair_bytes * here, self.link_s * here


class CollectiveGroup:
    """GPUs that do collectives together.

    Args:
        clock: Of the simulation.
        fabric: That connects them.
        ranks: Their names, in rank order; at least two.
        laws: Of their kind of GPU; None: ideal alpha-beta.
        hbm_bandwidth: Peak of one GPU's memory, bytes/s.
    """

    def __init__(
        self, clock: Clock, fabric: Fabric, ranks: Sequence[str], laws: LawsSpec | None, hbm_bandwidth: float
    ) -> None:
        self.clock = clock
        self.fabric = fabric
        self.ranks = tuple(ranks)
        self.laws = laws
        found = laid_rings(fabric, self.ranks)
        pairs = [(a, b, 1.0) for a in self.ranks for b in self.ranks if a != b]
        self.unit_loads: dict[Pattern, Loads] = {
            "ring": fabric.loads(ring_traffic(found, 1.0), memory=False),
            "all_pairs": fabric.loads(pairs, memory=False),
            "pair": fabric.loads([(self.ranks[0], self.ranks[1], 1.0)], memory=False),
        }
        self._peak_s = {pattern: fabric.peak_s(loads) for pattern, loads in self.unit_loads.items()}
        self._hop_s = max(fabric.route(a, b).latency_s for a, b, _ in ring_traffic(found, 1.0))
        self.ways = connection(fabric, self.ranks, 1.0 / self._peak_s["ring"], hbm_bandwidth)
        self._known: dict[Collective, TimedCollective] = {}

    def with_laws(self, laws: LawsSpec | None) -> CollectiveGroup:
        """Return the same GPUs with other laws."""
        group = copy(self)
        group.laws = laws
        group._known = {}  # noqa: SLF001  its own
        return group

    def timed(self, work: Collective) -> TimedCollective:
        """Return *work* with its fastest algorithm on idle links."""
        if work not in self._known:
            rows = self.rows(work)
            fixed_s, link_s = float(rows.fixed_s[0]), float(rows.link_s[0])
            self._known[work] = TimedCollective(
                name=work.name,
                operation=_operation(work),
                algorithm=rows.algorithms[0].name,
                fixed_s=fixed_s,
                link_s=link_s,
                loads=self.unit_loads[rows.algorithms[0].pattern].scaled(float(rows.pair_bytes[0])),
                ticks=rows.ticks.tolist(),
                attribution_s=rows.attribution_s,
                bound_s=rows.bound_s,
                among=work.among,
            )
        return self._known[work]

    def rows(self, work: Collective) -> CollectiveRows:
        """Time *work*, of one size or of many, each with its fastest algorithm."""
        sizes = np.atleast_1d(np.asarray(work.size_bytes, dtype=np.float64))
        candidates = self._algorithms(_operation(work), sizes)
        figures = np.array([self._figures(algorithm, len(sizes)) for algorithm in candidates])
        usable = np.array([np.broadcast_to(algorithm.usable, sizes.shape) for algorithm in candidates])
        best = np.argmin(np.where(usable, figures[:, 0] + figures[:, 1], np.inf), axis=0)
        fixed_s, link_s, pair_bytes, peak_s = figures[best, :, np.arange(len(sizes))].T
        chosen = [candidates[number] for number in best.tolist()]
        return CollectiveRows(chosen, fixed_s, link_s, pair_bytes, peak_s, ticks_array(fixed_s + link_s), work.among)

    def _figures(self, algorithm: Algorithm, number: int) -> list[FloatArray]:
        """Return fixed seconds, seconds on the links, bytes per pair and seconds at the links' peak, each (number,)."""
        loads = self.unit_loads[algorithm.pattern]
        peak_s = self._peak_s[algorithm.pattern] * algorithm.bytes_per_pair
        exposed_s = self._peak_s[algorithm.pattern] * algorithm.exposed_bytes
        link_s = (peak_s + exposed_s) / algorithm.efficiency
        if algorithm.pair_efficiency is not None:
            link_s = np.maximum(link_s, self._peak_s["pair"] * algorithm.bytes_per_pair / algorithm.pair_efficiency)
        # What the law measured may lie a little above what packet headers leave of the links of this topology.
        link_s = np.maximum(link_s, loads.ideal_s * algorithm.bytes_per_pair)
        figures = (algorithm.fixed_s, link_s, algorithm.bytes_per_pair, peak_s)
        return [np.broadcast_to(np.asarray(figure, dtype=np.float64), number) for figure in figures]

    def resources(self) -> frozenset[int]:
        """Return every resource of the fabric that any of its collectives may load."""
        return frozenset(resource for loads in self.unit_loads.values() for resource in loads.resources)

    def perform(self, timed: TimedCollective) -> Process:
        """Carry out *timed* now; its law's time on idle links, longer where others use them."""
        ended = self.clock.event()
        self.begin(timed, ended.trigger)
        yield ended

    def begin(self, timed: TimedCollective, then: Callable[[simpy.Event], None]) -> None:
        """Start to carry out *timed* now and have *then* called when it ends."""
        start = self.clock.now
        flow = self.fabric.transfer(timed.loads, ideal_s=timed.link_s, name=timed.full_name)
        self.clock.call_in(timed.ticks[0], partial(self._end, timed, start, flow, then))

    def _end(
        self,
        timed: TimedCollective,
        start: int,
        flow: Flow,
        then: Callable[[simpy.Event], None],
        event: simpy.Event,
    ) -> None:
        """End when the law says so for the time that the bytes took: not before its time on idle links."""
        if not flow.done.triggered:
            assert flow.done.callbacks is not None
            flow.done.callbacks.append(partial(self._end, timed, start, flow, then))
            return
        duration = ticks(timed.fixed_s + flow.elapsed_s) if flow.disturbed else timed.ticks[0]
        left = start + duration - self.clock.now
        # After others' traffic the flow may end a rounding to the clock later than the law says.
        if left > 0:
            self.clock.call_in(left, then)
        else:
            then(event)

    def _algorithms(self, operation: Operation, size_bytes: FloatArray) -> list[Algorithm]:
        if self.laws is None:
            return ideal_algorithms(operation, len(self.ranks), size_bytes, self._hop_s)
        own = own_algorithms(self.laws.engine_all_reduce, operation, size_bytes, self.ways)
        left = np.full(size_bytes.shape, fill_value=True)
        for algorithm in own:
            left &= ~np.asarray(algorithm.usable)
        others = nccl_algorithms(self.laws.nccl, operation, size_bytes, self.ways)
        return own + [replace(algorithm, usable=algorithm.usable & left) for algorithm in others]


_OPERATIONS: dict[type[Collective], Operation] = {
    AllReduce: "all_reduce",
    AllGather: "all_gather",
    ReduceScatter: "reduce_scatter",
    AllToAll: "all_to_all",
    SendRecv: "send_recv",
}


def _operation(work: Collective) -> Operation:
    return _OPERATIONS[type(work)]
