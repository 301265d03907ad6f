"""Memory: a bank of channels that transfers and paced traffic share on the clock, and its capacity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.core.clock import Clock
from gpusim.core.component import Component
from gpusim.core.probe import Probe
from gpusim.errors import CapacityError
from gpusim.hardware.channel_map import ChannelMap
from gpusim.hardware.channel_server import ChannelServer
from gpusim.hardware.dram import streaming_efficiency
from gpusim.hardware.over_time import OverTime
from gpusim.hardware.transfer import ChannelAccount, Transfer
from gpusim.spec.device import AggregateMemorySpec, MemorySpec
from gpusim.units import GiB

AGGREGATE_EFFICIENCY: Final = 0.9
"""Achieved / peak on long reads where nothing is known: the middle of the DRAM standards (`dram.py`)."""


def achieved_fraction(spec: MemorySpec) -> float:
    """Return achieved / peak on long reads: as stated, else that of the DRAM standard, else 0.9."""
    if spec.efficiency is not None:
        return spec.efficiency
    return AGGREGATE_EFFICIENCY if isinstance(spec, AggregateMemorySpec) else streaming_efficiency(spec.standard)


class MemoryBank(Component):
    """The memory of one device or host.

    Each channel is shared equally by the *elastic* transfers (kernels) with work left on it, after *paced* traffic
    (copies and remote reads, whose rate the fabric decides) has taken its share of every channel's time. A transfer
    ends with its last channel. There are events per transfer, never per burst, and none for a transfer that has the bank
    to itself and that nobody waits for: its end is known, and is entered in the books when somebody next looks.

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
        if not isinstance(spec, AggregateMemorySpec):
            self.num_channels = spec.channels
            self.channel_map = ChannelMap(spec.map, spec.channels, int(spec.granule))
        self.peak_bandwidth = spec.bandwidth
        self.bandwidth = spec.bandwidth * (1.0 if ideal else achieved_fraction(spec))
        """Bytes/s of all channels together on long reads, achieved."""
        self.rate = self.bandwidth / self.num_channels
        """Bytes/s of one channel on long reads, achieved."""
        self.paced_bytes = 0.0
        """Moved by paced traffic."""
        self._over_time = OverTime()
        self._spread_bytes, self._spread_at = 0.0, 0
        """Bytes of kernels in it, and the tick at which they had been moved."""
        self._reserved: dict[str, float] = {}
        self._server = ChannelServer(clock, self._close)
        self._on_elastic_change: Callable[[], None] | None = None
        self._finished = ChannelAccount(self.num_channels)

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
        return len(self._server.in_flight())

    @property
    def on_elastic_change(self) -> Callable[[], None] | None:
        """Called after `num_elastic` has changed."""
        return self._on_elastic_change

    @on_elastic_change.setter
    def on_elastic_change(self, hook: Callable[[], None] | None) -> None:
        self._on_elastic_change = hook
        self._server.hook(hook)

    def stream(self, demand_s: float | FloatArray, size_bytes: float | FloatArray) -> Transfer:
        """Start to move bytes; wait for ``done`` of the transfer that is returned.

        Args:
            demand_s: Seconds of service it needs of each channel: bytes there / (`rate` × a factor of at most 1 for
                pattern and kernel). A float: alike on all; else shape (num_channels,).
            size_bytes: Bytes it moves, for the account: a float, spread evenly, or shape (num_channels,).
        """
        if not isinstance(demand_s, np.ndarray):
            demand_s = float(demand_s)
        # Probes see every end as it comes; otherwise a transfer that has the bank to itself needs no event.
        return self._server.start(demand_s, size_bytes, may_be_lone=not self.probes)

    def set_paced(self, share: float) -> None:
        """Give *share* of the time of every channel to paced traffic, until the next call.

        At 1 transfers stand still, so whoever paces leaves them their part as soon as there are any.
        """
        assert 0.0 <= share <= 1.0, f"a share of {share} is no fraction of {self.name}"
        self._server.set_paced(share)
        self.spread()

    def account_paced(self, size_bytes: float, start: int, end: int) -> None:
        """Count bytes that paced traffic has moved between two ticks."""
        self.paced_bytes += size_bytes
        self._over_time.add(start, end, size_bytes)

    def account_paced_steps(self, size_bytes: FloatArray, starts: IntArray, ends: IntArray) -> None:
        """Count bytes that paced traffic has moved in each of many steps (steps,)."""
        self.paced_bytes += float(size_bytes.sum())
        self._over_time.extend(starts, ends, size_bytes)

    # Accounts

    def account(self, size_bytes: float | FloatArray, service_s: float) -> None:
        """Count bytes that a caller who knew that nothing else was there has moved without a transfer.

        When they were moved is for `spread` or `spread_steps`.

        Args:
            size_bytes: A float, spread evenly, or by channel, shape (num_channels,).
            service_s: Service they took, in the mean of all channels.
        """
        self._finished.add(size_bytes, service_s)

    def spread(self, start: int | None = None) -> None:
        """Spread what kernels have moved since this was last called over the time since then, or since tick *start*."""
        moved, now = self.moved_bytes, self.clock.now
        if moved != self._spread_bytes:
            self._over_time.add(self._spread_at if start is None else start, now, moved - self._spread_bytes)
        self._spread_bytes, self._spread_at = moved, now

    def spread_steps(self, size_bytes: FloatArray, starts: IntArray, ends: IntArray) -> None:
        """Say when what `account` has just counted was moved: the bytes of each of many steps (steps,)."""
        self._over_time.extend(starts, ends, size_bytes)
        self._spread_bytes = self.moved_bytes

    def over_time(self) -> OverTime:
        """Return the bytes that kernels and paced traffic have moved up to now, over time."""
        self.spread()
        return self._over_time

    @property
    def moved_bytes(self) -> float:
        """Bytes that kernels have moved, of transfers that run now as they were when the bank last changed."""
        running = self._server.in_flight()  # what is over is entered in the books first
        moved = self._finished.total()
        for transfer in running:
            moved += transfer.moved_bytes
        return moved

    @property
    def bytes_in(self) -> float:
        """Bytes of all transfers that were started."""
        running = sum(float(np.sum(transfer.size_bytes)) for transfer in self._server.in_flight())
        return self._finished.total() + running

    @property
    def bytes_out(self) -> float:
        """Bytes of all transfers that have ended."""
        self._server.retire()
        return self._finished.total()

    @property
    def channel_bytes_in(self) -> FloatArray:
        """`bytes_in` by channel, shape (num_channels,)."""
        running = ChannelAccount(self.num_channels)
        for transfer in self._server.in_flight():
            running.add(transfer.size_bytes, transfer.demand_s)
        return self._finished.by_channel() + running.by_channel()

    @property
    def channel_bytes_out(self) -> FloatArray:
        """`bytes_out` by channel, shape (num_channels,)."""
        self._server.retire()
        return self._finished.by_channel()

    @property
    def served_s(self) -> float:
        """Service given to transfers that have ended, in the mean of all channels."""
        self._server.retire()
        return self._finished.service_s()

    def busy_s(self) -> float:
        """Return the service given to what has ended, and to paced traffic: the mean busy time of a channel."""
        return self.served_s + self.paced_bytes / self.bandwidth

    def utilisation(self) -> float:
        """Return the busy fraction of the time from tick 0 to now, in the mean of all channels."""
        # The clock rounds every transfer, so that a bank that never rests could exceed 1 by as much.
        return min(1.0, self.busy_s() / self.clock.now_s) if self.clock.now else 0.0

    def _close(self, transfer: Transfer) -> None:
        self._finished.add(transfer.size_bytes, transfer.demand_s)
        if self.probes:
            self.emit(
                "transfer",
                transfer.start,
                size_bytes=float(np.sum(transfer.size_bytes)),
                disturbed=transfer.disturbed,
                channel_bytes=transfer.size_bytes,
                demand_s=transfer.demand_s,
            )
