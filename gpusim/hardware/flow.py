"""What the fabric moves: `Loads`, the bytes of a piece of traffic on each resource, and `Flow`, one in flight."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np
import simpy

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.core.clock import seconds, ticks


class PacedMemory(Protocol):
    """A memory bank as the fabric sees it; `num_elastic` kernel transfers share it with the flows."""

    name: str
    on_elastic_change: Callable[[], None] | None

    @property
    def bandwidth(self) -> float:
        """Bytes/s on long reads."""

    @property
    def num_elastic(self) -> int:
        """Kernel transfers that run now."""

    def set_paced(self, share: float) -> None:
        """Give *share* of the time of each channel to flows, until the next call."""

    def account_paced(self, size_bytes: float, start: int, end: int) -> None:
        """Count bytes that flows have moved between two ticks."""

    def account_paced_steps(self, size_bytes: FloatArray, starts: IntArray, ends: IntArray) -> None:
        """Count bytes that flows have moved in each of many steps (steps,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Loads:
    """Bytes a piece of traffic moves over each link and memory bank it uses."""

    resources: tuple[int, ...]
    """Resources of the fabric: links by edge index, then banks."""
    resource_set: frozenset[int]
    """The same, to compare with those of others."""
    index: IntArray
    """The same, for numpy."""
    banks: dict[int, float]
    """Bytes on those of them that are memory banks."""
    amounts: FloatArray
    """Bytes on each of `resources`."""
    fractions: FloatArray
    """The same as fractions of the largest."""
    idle_s: FloatArray
    """Seconds each of `resources` needs for its amount."""
    size_bytes: float
    """Payload of the whole traffic."""
    latency_s: float
    """Of its slowest route."""
    peak_bytes: float
    """The largest of `amounts`."""
    ideal_s: float
    """The largest of `idle_s`: time on an idle fabric, without latency."""

    @classmethod
    def of(
        cls, amounts: FloatArray, capacity: FloatArray, num_links: int, size_bytes: float, latency_s: float
    ) -> Loads:
        """Make loads of the bytes on every resource of a fabric, the links first."""
        index = np.flatnonzero(amounts)
        amounts = amounts[index]
        resources = tuple(index.tolist())
        by_resource = dict(zip(resources, amounts.tolist(), strict=True))
        idle_s = amounts / capacity[index]
        peak_bytes = float(amounts.max(initial=0.0))
        return cls(
            resources=resources,
            resource_set=frozenset(resources),
            index=index,
            banks={resource: size for resource, size in by_resource.items() if resource >= num_links},
            amounts=amounts,
            fractions=amounts / peak_bytes,
            idle_s=idle_s,
            size_bytes=size_bytes,
            latency_s=latency_s,
            peak_bytes=peak_bytes,
            ideal_s=float(idle_s.max(initial=0.0)),
        )

    def scaled(self, factor: float) -> Loads:
        """Return the same traffic, *factor* times as large."""
        return replace(
            self,
            banks={resource: size * factor for resource, size in self.banks.items()},
            amounts=self.amounts * factor,
            idle_s=self.idle_s * factor,
            size_bytes=self.size_bytes * factor,
            peak_bytes=self.peak_bytes * factor,
            ideal_s=self.ideal_s * factor,
        )

    def on(self, resource: int) -> float:
        """Return the bytes on one of `resources`."""
        return float(self.amounts[bisect_left(self.resources, resource)])


class Ask(NamedTuple):
    """What a flow asks of its resources; flows that ask the same get the same."""

    loads: Loads
    rate_unit: float
    """Bytes/s the flow takes of its most loaded resource, per unit of speed."""
    ideal_speed: float
    """Progress per second if it is never slowed."""


@dataclass(slots=True, eq=False)
class Flow:
    """Traffic in flight: it progresses from 0 to 1 at a speed that its resources allow.

    All of its bytes advance together, so a collective over many links is one flow.
    """

    loads: Loads
    ideal_s: float
    """Seconds its bytes take if it is never slowed."""
    done: simpy.Event
    """Happens when the last byte has arrived; its value is the flow. A background stream's never does."""
    occupation: float = 1.0
    """Bytes it keeps a link busy for, per byte it moves."""
    endless: bool = False
    start: int = 0
    """Tick at which its first byte moved: after the latency."""
    elapsed_s: float = 0.0
    """Seconds its bytes took, once done: exactly `ideal_s` if it was not disturbed."""
    disturbed: bool = False
    """Whether it ever had less than its ideal speed."""
    speed: float = 0.0
    """Progress per second since tick `since`."""
    progress: float = 0.0
    """Progress at tick `since`."""
    since: int = 0
    due: int | None = None
    """Tick at which it ends at this speed."""
    epoch: int = 0
    """Counts changes of speed; a wakeup set in an older epoch is void."""
    accounted: float = 0.0
    """Progress whose bytes have been counted."""
    counted: int = 0
    """Tick up to which they have been."""

    ideal_speed: float = field(init=False)
    """Progress per second if it is never slowed."""
    ask: Ask = field(init=False)
    """What its resources need to know to share."""

    def __post_init__(self) -> None:
        self.ideal_speed = 1.0 / self.ideal_s if self.ideal_s > 0.0 else math.inf
        self.ask = Ask(self.loads, self.loads.peak_bytes * self.occupation, self.ideal_speed)

    def progress_at(self, now: int) -> float:
        """Return the progress at tick *now*, not before `since`."""
        reached = self.progress + self.speed * seconds(now - self.since)
        return reached if self.endless else min(1.0, reached)

    def settle(self, now: int) -> None:
        """Make tick *now* the start of a segment of constant speed."""
        if now > self.since:
            self.disturbed = self.disturbed or self.speed != self.ideal_speed
            self.progress = self.progress_at(now)
        self.since = now

    def finish(self, now: int) -> None:
        """Note at its due tick how long the bytes took."""
        if self.disturbed or (self.speed != self.ideal_speed and now > self.start):
            self.disturbed = True
            self.elapsed_s = seconds(self.since - self.start) + self.remaining_s
        else:
            self.elapsed_s = self.ideal_s

    def end_tick(self) -> int:
        """Return the tick at which it ends if it keeps the speed it has since tick `since`."""
        if not self.disturbed and self.speed == self.ideal_speed:
            return max(self.since, self.start + ticks(self.ideal_s))
        return self.since + ticks(self.remaining_s)

    @property
    def remaining_s(self) -> float:
        """Seconds from tick `since` to the end at this speed."""
        return (1.0 - self.progress) / self.speed if self.speed > 0.0 else math.inf
