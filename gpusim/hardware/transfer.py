"""What a memory bank moves: `Transfer`, bytes in flight, and `ChannelAccount`, an account of what was moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import simpy

from gpusim.core.arrays import FloatArray
from gpusim.core.clock import seconds, ticks
from gpusim.units import LONGEST_S

NEVER: Final = 2**63 - 1
"""A tick that does not come."""


class Transfer:
    """Bytes being read from or written to a bank."""

    __slots__ = (
        "_done",
        "_watch",
        "demand_s",
        "disturbed",
        "due",
        "elapsed_s",
        "ideal_s",
        "is_over",
        "left_s",
        "lone",
        "shares",
        "size_bytes",
        "start",
    )

    def __init__(
        self,
        done: simpy.Event | None,
        start: int,
        demand_s: float | FloatArray,
        size_bytes: float | FloatArray,
        watch: Callable[[Transfer], simpy.Event] | None = None,
    ) -> None:
        self._done = done
        self._watch = watch
        self.start = start
        self.demand_s = demand_s
        """Service it needs of each channel; a float: alike on all."""
        self.ideal_s = demand_s if isinstance(demand_s, float) else float(demand_s.max())
        """Seconds it takes on idle channels: the largest demand."""
        self.elapsed_s = self.ideal_s
        """Seconds it took, once done: exactly `ideal_s` if it was not disturbed."""
        self.disturbed = False
        """Whether other traffic ever took service from a channel it needed."""
        self.size_bytes = size_bytes
        self.left_s = demand_s
        """Service it still needed of each channel at the bank's last change; a float: alike on all."""
        self.shares = False
        """Whether other traffic takes service from it since then."""
        self.lone = False
        """Whether nothing else has been on the bank since it started, so that nobody need be woken when it ends."""
        self.is_over = False
        """Whether its bank has closed it."""
        self.due = start + ticks(self.ideal_s)
        """Tick at which it ends if nothing changes."""

    @property
    def done(self) -> simpy.Event:
        """Happens when the last channel is through; its value is the transfer.

        It is made for those who ask for it: a transfer that nobody waits for puts no event on the queue.
        """
        if self._done is None:
            assert self._watch is not None, "a transfer without an event comes with a bank that makes one"
            self._done = self._watch(self)
        return self._done

    def close(self) -> None:
        """Note that the last channel is through, and tell those who wait."""
        self.is_over = True
        if not self.disturbed:
            self.elapsed_s = self.ideal_s
        if self._done is not None:
            self._done.succeed(self)

    @property
    def longest_s(self) -> float:
        """Service it still needs of its last channel."""
        return self.left_s if isinstance(self.left_s, float) else float(self.left_s.max())

    @property
    def moved_bytes(self) -> float:
        """Bytes it had moved at the bank's last change, on each channel as much as its service had come to."""
        size_bytes = self.size_bytes
        in_all = size_bytes if isinstance(size_bytes, float) else float(np.sum(size_bytes))
        return in_all * (1.0 - _mean(self.left_s) / _mean(self.demand_s))

    def serve(self, service_s: float) -> None:
        """Take off what each channel has given it."""
        left_s = self.left_s - service_s
        self.left_s = max(left_s, 0.0) if isinstance(left_s, float) else np.maximum(left_s, 0.0)

    def plan(self, now: int, needed_s: float, speed: float, *, shares: bool) -> None:
        """Set when it ends if, from tick *now* on, it needs *needed_s* seconds of service at *speed*."""
        self.shares = shares
        if not (shares or self.disturbed):
            self.due = max(now, self.start + ticks(self.ideal_s))
        elif needed_s >= speed * LONGEST_S:  # the speed is 0, or rounding away from it
            self.due = NEVER
        else:
            self.elapsed_s = seconds(now - self.start) + needed_s / speed
            self.due = now + ticks(needed_s / speed)


def _mean(amount: float | FloatArray) -> float:
    return amount if isinstance(amount, float) else float(amount.sum()) / len(amount)


class ChannelAccount:
    """Bytes moved and service given, by channel; even amounts, the frequent case, cost an addition each."""

    def __init__(self, num_channels: int) -> None:
        self._even = 0.0
        self._uneven = np.zeros(num_channels)
        self._uneven_total: float | None = 0.0
        """Its sum; None: not yet added up."""
        self._even_s = 0.0
        self._uneven_s = np.zeros(num_channels)

    def add(self, size_bytes: float | FloatArray, service_s: float | FloatArray) -> None:
        """Add bytes, a float spread evenly or an amount for each channel, and the service of each, a float if alike."""
        if isinstance(size_bytes, np.ndarray):
            self._uneven += size_bytes
            self._uneven_total = None
        else:
            self._even += size_bytes
        if isinstance(service_s, np.ndarray):
            self._uneven_s += service_s
        else:
            self._even_s += service_s

    def by_channel(self) -> FloatArray:
        """Return the bytes on each channel, shape (num_channels,)."""
        by_channel: FloatArray = self._uneven + self._even / len(self._uneven)
        return by_channel

    def total(self) -> float:
        """Return the bytes on all channels."""
        if self._uneven_total is None:
            self._uneven_total = float(self._uneven.sum())
        return self._even + self._uneven_total

    def service_s(self) -> float:
        """Return the service in the mean of all channels."""
        return self._even_s + float(self._uneven_s.mean())
