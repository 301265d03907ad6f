"""Collectives of a group of GPUs: timed by their law, carried as flows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import simpy

from gpusim.core.clock import Clock, FloatArray, ticks
from gpusim.core.component import Process
from gpusim.hardware.fabric import Fabric, Flow, Loads
from gpusim.model.work import AllReduce, Collective
from gpusim.runtime.attribution import collective_attribution
from gpusim.runtime.laws.collectives import Algorithm, Operation, Pattern, calibrated_algorithms, ideal_algorithms
from gpusim.runtime.rings import ring_traffic, rings
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
        self.hbm_bandwidth = hbm_bandwidth
        found = rings(self.ranks, fabric.direct_bandwidth)
        pairs = [(a, b, 1.0) for a in self.ranks for b in self.ranks if a != b]
        self._unit_loads: dict[Pattern, Loads] = {
            "ring": fabric.loads(ring_traffic(found, 1.0), memory=False),
            "all_pairs": fabric.loads(pairs, memory=False),
        }
        self._hop_s = max(fabric.route(a, b).latency_s for a, b, _ in ring_traffic(found, 1.0))
        self._is_direct = fabric.are_scale_up_connected(self.ranks)
        self._known: dict[Collective, TimedCollective] = {}

    def timed(self, work: Collective) -> TimedCollective:
        """Return *work* with its fastest algorithm on idle links."""
        if work not in self._known:
            operation: Operation = "all_reduce" if isinstance(work, AllReduce) else "all_gather"
            candidates = [self._timed(work, operation, a) for a in self._algorithms(operation, work.size_bytes)]
            self._known[work] = min(candidates, key=lambda timed: timed.fixed_s + timed.link_s)
        return self._known[work]

    def resources(self) -> frozenset[int]:
        """Return every resource of the fabric that any of its collectives may load."""
        return frozenset(resource for loads in self._unit_loads.values() for resource in loads.resources)

    def perform(self, timed: TimedCollective) -> Process:
        """Carry out *timed* now; its law's time on idle links, longer where others use them."""
        ended = self.clock.event()
        self.begin(timed, ended.trigger)
        yield ended

    def begin(self, timed: TimedCollective, then: Callable[[simpy.Event], None]) -> None:
        """Start to carry out *timed* now and have *then* called when it ends."""
        start = self.clock.now
        flow = self.fabric.transfer(timed.loads, ideal_s=timed.link_s)
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

    def _algorithms(self, operation: Operation, size_bytes: float) -> list[Algorithm]:
        count = len(self.ranks)
        if self.laws is None:
            return ideal_algorithms(operation, count, size_bytes, self._hop_s)
        return calibrated_algorithms(
            operation, count, size_bytes, self.laws, direct=self._is_direct, hbm_bandwidth=self.hbm_bandwidth
        )

    def _timed(self, work: Collective, operation: Operation, algorithm: Algorithm) -> TimedCollective:
        loads = self._unit_loads[algorithm.pattern].scaled(algorithm.bytes_per_pair)
        peak_s = self.fabric.peak_s(loads)
        # What the law measured may lie a little above what packet headers leave of the links of this topology.
        link_s = max(peak_s / algorithm.efficiency, loads.ideal_s)
        duration_s = algorithm.fixed_s + link_s
        return TimedCollective(
            name=work.name,
            operation=operation,
            algorithm=algorithm.name,
            fixed_s=algorithm.fixed_s,
            link_s=link_s,
            loads=loads,
            ticks=[ticks(duration_s)],
            attribution_s=collective_attribution(duration_s),
            bound_s=np.array([peak_s]),
        )
