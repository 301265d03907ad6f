"""Memory: a bank of channels that transfers and paced traffic share on the clock, and its capacity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import simpy

from gpusim.core.clock import Clock, FloatArray, seconds
from gpusim.core.component import Component
from gpusim.core.probe import Probe
from gpusim.errors import CapacityError
from gpusim.hardware.channel_map import ChannelMap
from gpusim.hardware.dram import streaming_efficiency
from gpusim.hardware.processor_sharing import advance, finish_s, shares
from gpusim.hardware.transfer import NEVER, ChannelBytes, Transfer
from gpusim.spec.device import AggregateMemorySpec, MemorySpec
from gpusim.units import GiB

AGGREGATE_EFFICIENCY: Final = 0.9
"""Achieved / peak on long reads where nothing is known: the middle of the DRAM standards (`dram.py`)."""


class MemoryBank(Component):
    """The memory of one device or host.

    Each channel is shared equally by the *elastic* transfers (kernels) with work left on it, after *paced* traffic
    (copies and remote reads, whose rate the fabric decides) has taken its share of every channel's time. A transfer
    ends with its last channel. There are events per transfer, never per burst.

    Args:
        clock: The clock of the simulation.
        name: Where it is, such as ``gpu3.memory``.
        spec: Channels, or an aggregate: one channel.
        ideal: Long reads run at the peak rate.
        probes: Shared by all components.
    """

    def __init__(
        self, clock: Clock, name: str, spec: MemorySpec, *, ideal: bool = False, probes: list[Probe] | None = None
    ) -> None:
        super().__init__(clock, name, probes)
        self.spec = spec
        self.num_channels = 1
        self.channel_map: ChannelMap | None = None
        """Where an address lies; None for an aggregate."""
        efficiency = spec.efficiency
        if isinstance(spec, AggregateMemorySpec):
            efficiency = AGGREGATE_EFFICIENCY if efficiency is None else efficiency
        else:
            self.num_channels = spec.channels
            self.channel_map = ChannelMap(spec.map, spec.channels, int(spec.granule))
            efficiency = streaming_efficiency(spec.standard) if efficiency is None else efficiency
        self.peak_bandwidth = spec.bandwidth
        self.bandwidth = spec.bandwidth * (1.0 if ideal else efficiency)
        """Bytes/s of all channels together on long reads, achieved."""
        self.rate = self.bandwidth / self.num_channels
        """Bytes/s of one channel on long reads, achieved."""
        self.on_elastic_change: Callable[[], None] | None = None
        """Called after `num_elastic` has changed."""
        self.paced_bytes = 0.0
        """Moved by paced traffic."""
        self._reserved: dict[str, float] = {}
        self._running: list[Transfer] = []
        self._paced = 0.0
        self._since = 0
        self._wake: simpy.Event | None = None
        self._accepted = ChannelBytes(self.num_channels)
        self._finished = ChannelBytes(self.num_channels)
        self._served_s = 0.0

    # Capacity

    @property
    def used_bytes(self) -> float:
        """Bytes reserved now."""
        return sum(self._reserved.values())

    def reserve(self, size_bytes: float, what: str) -> None:
        """Take capacity for *what*.

        Raises:
            CapacityError: If there is not as much left.
        """
        capacity, used = self.spec.capacity, self.used_bytes
        if used + size_bytes > capacity:
            taken = f" with {used / GiB:.4g} GiB taken" if used else ""
            raise CapacityError(
                f"{what}: {size_bytes / GiB:.4g} GiB do not fit into {self.name}, which has {capacity / GiB:.4g} GiB"
                f"{taken}; store less there, spread it over more devices, or use one with more memory"
            )
        self._reserved[what] = self._reserved.get(what, 0.0) + size_bytes

    def release(self, size_bytes: float, what: str) -> None:
        """Give back capacity that was reserved for *what*."""
        left = self._reserved.get(what, 0.0) - size_bytes
        assert left > -1.0, f"{what} gives back more than it reserved in {self.name}"
        self._reserved[what] = max(left, 0.0)

    # Transfers

    @property
    def num_elastic(self) -> int:
        """Transfers that run now."""
        return len(self._running)

    def stream(self, demand_s: float | FloatArray, size_bytes: float | FloatArray) -> Transfer:
        """Start to move bytes; wait for ``done`` of the transfer that is returned.

        Args:
            demand_s: Seconds of service it needs of each channel: bytes there / (`rate` × a factor of at most 1 for
                pattern and kernel). A float: alike on all; else shape (num_channels,).
            size_bytes: Bytes it moves, for the account: a float, spread evenly, or shape (num_channels,).
        """
        now = self.clock.now
        if not isinstance(demand_s, np.ndarray):
            demand_s = float(demand_s)
        transfer = Transfer(simpy.Event(self.clock.env), now, demand_s, size_bytes)
        assert transfer.ideal_s >= 0.0, "service is not negative"
        self._accepted.add(size_bytes)
        if transfer.ideal_s == 0.0:
            self._close(transfer)
        elif self._running or self._paced or self.on_elastic_change is not None:
            self._settle()
            self._running.append(transfer)
            self._change_elastic()
        else:
            self._since = now
            self._running.append(transfer)
            self._wake_at(transfer.due)
        return transfer

    def set_paced(self, share: float) -> None:
        """Give *share* of the time of every channel to paced traffic, until the next call.

        At 1 transfers stand still, so whoever paces leaves them their part as soon as there are any.
        """
        assert 0.0 <= share <= 1.0, f"a share of {share} is no fraction of {self.name}"
        if share != self._paced:
            self._settle()
            self._paced = share
            self._plan()

    def account_paced(self, size_bytes: float) -> None:
        """Count bytes that paced traffic has moved."""
        self.paced_bytes += size_bytes

    # Accounts

    def account(self, size_bytes: float | FloatArray, service_s: float) -> None:
        """Count bytes that a caller who knew that nothing else was there has moved without a transfer.

        Args:
            size_bytes: A float, spread evenly, or by channel, shape (num_channels,).
            service_s: Service they took, in the mean of all channels.
        """
        self._accepted.add(size_bytes)
        self._finished.add(size_bytes)
        self._served_s += service_s

    @property
    def bytes_in(self) -> float:
        """Bytes of all transfers that were started."""
        return self._accepted.total()

    @property
    def bytes_out(self) -> float:
        """Bytes of all transfers that have ended."""
        return self._finished.total()

    @property
    def channel_bytes_in(self) -> FloatArray:
        """`bytes_in` by channel, shape (num_channels,)."""
        return self._accepted.by_channel()

    @property
    def channel_bytes_out(self) -> FloatArray:
        """`bytes_out` by channel, shape (num_channels,)."""
        return self._finished.by_channel()

    def busy_s(self) -> float:
        """Return the service given to what has ended, and to paced traffic: the mean busy time of a channel."""
        return self._served_s + self.paced_bytes / self.bandwidth

    def utilisation(self) -> float:
        """Return the busy fraction of the time from tick 0 to now, in the mean of all channels."""
        # The clock rounds every transfer, so that a bank that never rests could exceed 1 by as much.
        return min(1.0, self.busy_s() / self.clock.now_s) if self.clock.now else 0.0

    # Sharing

    def _on_wake(self, event: simpy.Event) -> None:
        """End what is due; a wakeup that a later plan replaced does nothing."""
        if event is not self._wake:
            return
        self._settle()
        now = self.clock.now
        ended = [transfer for transfer in self._running if transfer.due <= now]
        self._running = [transfer for transfer in self._running if transfer.due > now]
        for transfer in ended:
            self._close(transfer)
        self._change_elastic()

    def _settle(self) -> None:
        """Account for the time since the last change."""
        now = self.clock.now
        if now == self._since:
            return
        service_s = seconds(now - self._since) * (1.0 - self._paced)
        self._since = now
        running = self._running
        for transfer in running:
            transfer.disturbed = transfer.disturbed or transfer.shares
        if len(running) == 1:
            running[0].serve(service_s)
        elif running:
            for transfer, row in zip(running, advance(_left_s(running), service_s), strict=True):
                transfer.left_s = row

    def _change_elastic(self) -> None:
        """Plan for another number of transfers, after the fabric has answered to it."""
        if self.on_elastic_change is not None:
            self.on_elastic_change()
        self._plan()

    def _plan(self) -> None:
        """Set when each transfer ends if nothing changes, and wake up at the first end."""
        self._wake = None
        if not self._running:
            return
        now, speed = self.clock.now, 1.0 - self._paced
        going = self._going()
        if len(going) == 1:
            going[0].plan(now, going[0].longest_s, speed, shares=speed < 1.0)
        elif going:
            left_s = _left_s(going)
            rows = zip(going, finish_s(left_s).tolist(), shares(left_s).tolist(), strict=True)
            for transfer, needed_s, is_shared in rows:
                transfer.plan(now, needed_s, speed, shares=is_shared or speed < 1.0)
        first = min(transfer.due for transfer in self._running)
        if first < NEVER:
            self._wake_at(first)

    def _going(self) -> list[Transfer]:
        """Transfers that are not through; one that is due now takes nothing more, though its wakeup may come later."""
        now = self.clock.now
        return [transfer for transfer in self._running if transfer.due > now]

    def _close(self, transfer: Transfer) -> None:
        if not transfer.disturbed:
            transfer.elapsed_s = transfer.ideal_s
        self._finished.add(transfer.size_bytes)
        self._served_s += transfer.mean_s
        transfer.done.succeed(transfer)
        if self.probes:
            size_bytes = float(np.sum(transfer.size_bytes))
            self.emit("transfer", transfer.start, size_bytes=size_bytes, disturbed=transfer.disturbed)

    def _wake_at(self, tick: int) -> None:
        self._wake = self.clock.timeout(tick - self.clock.now)
        assert self._wake.callbacks is not None
        self._wake.callbacks.append(self._on_wake)


def _left_s(transfers: Sequence[Transfer]) -> FloatArray:
    """Service still needed, (transfers, channels); one column if all are alike on all channels."""
    rows = [np.atleast_1d(transfer.left_s) for transfer in transfers]
    return np.stack(np.broadcast_arrays(*rows))
