"""Sharing: the speeds of all flows in flight, re-solved where one starts, ends or meets other kernels.

Between two events every flow has a constant speed. A flow alone on its resources is never solved for: it has its
ideal speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import simpy

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.core.clock import DECISION, Clock, mark_past
from gpusim.hardware.flow import Flow, Loads, PacedMemory
from gpusim.hardware.link_account import LinkAccount
from gpusim.hardware.occupancy import Group, Occupancy
from gpusim.hardware.speeds import Speeds

JOIN = DECISION + 1
"""Flows join after everything else of their tick, so none is slowed by one that ends as it starts."""
SOLVE = JOIN + 1
"""Speeds are solved once for all that changed at a tick."""


class Sharing:
    """Flows in flight on resources of fixed capacity.

    Args:
        clock: The clock of the simulation.
        capacity: Bytes/s of each resource, shape (num_resources,).
        account: Of what they move.
        banks: The resources among them that are memory banks, shared with the kernels that run there.
        watch: Called with the flows whose speeds were decided or that left.
    """

    def __init__(
        self,
        clock: Clock,
        capacity: FloatArray,
        account: LinkAccount,
        banks: Mapping[int, PacedMemory],
        watch: Callable[[Iterable[Flow]], None],
    ) -> None:
        self.clock = clock
        self.account = account
        self._occupancy = Occupancy(len(capacity))
        self._watch = watch
        self._banks = banks
        self._hooks = {resource: partial(self._elastic_changed, resource) for resource in banks}
        self._paced = dict.fromkeys(banks, 0.0)
        self.speeds = Speeds(capacity)
        self._unsolved: dict[Flow, None] = {}

    def join_after(self, flow: Flow, delay: int) -> None:
        """Let *flow* start *delay* ticks from now."""
        self.clock.call_in(delay, partial(self._join, flow), priority=JOIN)

    def stop(self, flow: Flow) -> None:
        """End *flow* now, wherever it is; once it has ended this does nothing."""
        if not flow.done.triggered:
            flow.settle(self.clock.now)
            self._end(flow, flow.progress)

    def settle(self) -> None:
        """Count the bytes of the flows in flight up to now."""
        for flow in self._occupancy:
            self._count(flow, flow.progress_at(self.clock.now))

    def flows_at(self, resource: int) -> list[Flow]:
        """Return the flows on a resource."""
        return self._occupancy.at(resource)

    def count(self, loads: Loads, times: float, busy_s: float, start: int, end: int) -> None:
        """Count *loads* moved *times* between two ticks, each time keeping its fullest resource for *busy_s*."""
        self.account.add(loads, times, _occupation(loads, busy_s))
        self.account.spread(loads, start, end, times)
        for resource, size_bytes in loads.banks.items():
            self._banks[resource].account_paced(size_bytes * times, start, end)

    def count_steps(self, loads: Loads, times: FloatArray, busy_s: float, starts: IntArray, ends: IntArray) -> None:
        """Count *loads* moved by steps that were not played, see `count`; a number of *times* in each (steps,)."""
        total = float(times.sum())
        self.account.add(loads, total, _occupation(loads, busy_s))
        self.account.spread_steps(loads, starts, ends, times)
        for resource, size_bytes in loads.banks.items():
            self._banks[resource].account_paced_steps(size_bytes * times, starts, ends)

    def _join(self, flow: Flow, _: simpy.Event) -> None:
        if flow.done.triggered:
            return
        flow.start = flow.since = flow.counted = self.clock.now
        if flow.ideal_s == 0.0:
            self._finish(flow)
            return
        if self._is_first(flow):
            self._set_speed(flow, flow.ideal_speed)
            self._pace(flow.loads.banks)
            self._watch((flow,))
        else:
            self._changed((flow,))

    def _is_first(self, flow: Flow) -> bool:
        """Put *flow* on its resources; tell whether it is alone there."""
        is_alone = self._occupancy.join(flow)
        for resource in flow.loads.banks:
            self._banks[resource].on_elastic_change = self._hooks[resource]
            is_alone = is_alone and not self._banks[resource].num_elastic
        return is_alone

    def _wake(self, flow: Flow, epoch: int, _: simpy.Event) -> None:
        if epoch == flow.epoch:
            self._finish(flow)

    def _finish(self, flow: Flow) -> None:
        flow.finish(self.clock.now)
        self._end(flow, 1.0)

    def _end(self, flow: Flow, progress: float) -> None:
        self._count(flow, progress)
        flow.epoch += 1
        others = self._occupancy.leave(flow)
        self._pace(flow.loads.banks)
        if flow.done.callbacks:
            flow.done.succeed(flow)
        else:
            mark_past(flow.done, flow)
        if others:
            self._changed(others)
        self._watch((flow,))

    def _elastic_changed(self, resource: int) -> None:
        """Have speeds solved if another number of kernels on a bank makes any difference to them."""
        group = self._occupancy.group_of(next(iter(self._occupancy.on_bank(resource))))
        if any(speed != flow.speed for flow, speed in zip(group.flows, self._fair_speeds(group), strict=True)):
            self._changed(group.flows[:1])

    def _changed(self, flows: Iterable[Flow]) -> None:
        """Have the speeds of *flows*, and of all connected to them, solved at the end of this tick."""
        if not self._unsolved:
            self.clock.call_in(0, self._solve_changed, priority=SOLVE)
        self._unsolved |= dict.fromkeys(flows)

    def _solve_changed(self, _: simpy.Event) -> None:
        unsolved, self._unsolved = self._unsolved, {}
        while unsolved:
            flow = next(iter(unsolved))
            if flow.done.triggered:
                del unsolved[flow]
                continue
            group = self._occupancy.group_of(flow)
            self._solve(group)
            unsolved = {other: None for other in unsolved if other not in group.flows}

    def _solve(self, group: Group) -> None:
        """Share the resources of the flows of *group*."""
        for flow, speed in zip(group.flows, self._fair_speeds(group), strict=True):
            if speed != flow.speed:
                self._set_speed(flow, speed)
        self._pace(group.banks)
        self._watch(group.flows)

    def _fair_speeds(self, group: Group) -> list[float]:
        """Return the speeds that the flows of *group* are to have now."""
        elastic = tuple([(bank, self._banks[bank].num_elastic) for bank in group.banks])
        return self.speeds.of(group.asks, elastic)

    def _set_speed(self, flow: Flow, speed: float) -> None:
        """Give *flow* a speed from now on and a wakeup at its new end."""
        now = self.clock.now
        flow.settle(now)
        if now > flow.counted:
            self._count(flow, flow.progress)
        flow.speed = speed
        flow.epoch += 1
        if not flow.endless:
            flow.due = flow.end_tick()
            self.clock.call_in(flow.due - now, partial(self._wake, flow, flow.epoch))

    def _pace(self, banks: Iterable[int]) -> None:
        """Tell memory banks which share of their time the flows take now."""
        for resource in banks:
            flows = self._occupancy.on_bank(resource)
            taken = math.fsum([_rate(flow, resource) for flow in flows])
            taken /= self._banks[resource].bandwidth
            if taken != self._paced[resource]:
                self._paced[resource] = taken
                self._banks[resource].set_paced(min(1.0, taken))
            if not flows:
                self._banks[resource].on_elastic_change = None

    def _count(self, flow: Flow, progress: float) -> None:
        """Count what *flow* has moved since it was last counted."""
        new = progress - flow.accounted
        flow.accounted = progress
        start, flow.counted = flow.counted, self.clock.now
        self.count(flow.loads, new, flow.occupation * flow.loads.ideal_s, start, flow.counted)


def _occupation(loads: Loads, busy_s: float) -> float:
    """Return the bytes that each byte of *loads* keeps a link busy for, if its fullest resource takes *busy_s*."""
    return busy_s / loads.ideal_s if loads.ideal_s > 0.0 else 1.0


def _rate(flow: Flow, bank: int) -> float:
    """Return the bytes/s of *bank* that *flow* keeps busy now."""
    return flow.loads.banks[bank] * flow.occupation * flow.speed
