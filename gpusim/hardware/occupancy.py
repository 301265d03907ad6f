"""Occupancy: which flows are on which resources of a fabric, and which are connected by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from gpusim.hardware.flow import Ask, Flow


class Group(NamedTuple):
    """Flows that share resources with each other, directly or through others, and with no flow besides."""

    flows: tuple[Flow, ...]
    asks: tuple[Ask, ...]
    banks: tuple[int, ...]
    """The memory banks among their resources."""


class Occupancy:
    """Flows in flight by resource.

    A flow that is on links only and meets nobody is kept apart, and entered on its links when another comes: a
    collective has many links, and is alone on them nearly always.

    Args:
        num_resources: Links and memory banks.
    """

    def __init__(self, num_resources: int) -> None:
        self._on: list[dict[Flow, None]] = [{} for _ in range(num_resources)]
        self._num_entered = 0
        self._apart: dict[Flow, None] = {}
        self._groups: dict[Flow, Group] = {}

    def __iter__(self) -> Iterator[Flow]:
        """Go through all flows, each once."""
        return iter(dict.fromkeys(flow for flows in (self._apart, *self._on) for flow in flows))

    def on_bank(self, resource: int) -> Mapping[Flow, None]:
        """Return the flows on a memory bank."""
        return self._on[resource]

    def at(self, resource: int) -> list[Flow]:
        """Return the flows on any resource."""
        return [*self._on[resource], *(flow for flow in self._apart if resource in flow.loads.resource_set)]

    def join(self, flow: Flow) -> bool:
        """Put *flow* on its resources; return whether it is the only flow on all of them."""
        loads = flow.loads
        for other in [other for other in self._apart if not loads.resource_set.isdisjoint(other.loads.resource_set)]:
            del self._apart[other]
            self._enter(other)
        is_alone = not (self._num_entered and any(map(self._on.__getitem__, loads.resources)))
        if is_alone and not loads.banks:
            self._apart[flow] = None
        else:
            self._enter(flow)
        return is_alone

    def leave(self, flow: Flow) -> dict[Flow, None]:
        """Take *flow* off its resources, if it has ever been on them; return those it leaves them to."""
        others: dict[Flow, None] = {}
        if flow in self._apart:
            del self._apart[flow]
            return others
        is_on = False
        for resource in flow.loads.resources:
            flows = self._on[resource]
            if flow in flows:
                is_on = True
                del flows[flow]
            if flows:
                others |= flows
        self._num_entered -= is_on
        self._groups.clear()
        return others

    def group_of(self, flow: Flow) -> Group:
        """Return the flows that share resources with *flow*, itself included; found once for as long as none changes."""
        if flow not in self._groups:
            flows = tuple(self._connected(flow))
            banks = dict.fromkeys(bank for member in flows for bank in member.loads.banks)
            self._groups[flow] = Group(flows, tuple(member.ask for member in flows), tuple(banks))
        return self._groups[flow]

    def _enter(self, flow: Flow) -> None:
        self._num_entered += 1
        self._groups.clear()
        for resource in flow.loads.resources:
            self._on[resource][flow] = None

    def _connected(self, flow: Flow) -> dict[Flow, None]:
        group = {flow: None}
        seen: set[int] = set()
        pending = [flow]
        while pending:
            for resource in pending.pop().loads.resources:
                flows = self._on[resource]
                if len(flows) > 1 and resource not in seen:
                    seen.add(resource)
                    new = [other for other in flows if other not in group]
                    group |= dict.fromkeys(new)
                    pending += new
        return group
