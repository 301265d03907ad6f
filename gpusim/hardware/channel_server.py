"""Channel server: the channels of a memory bank on the clock, shared by transfers and paced traffic."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import simpy

from gpusim.core.arrays import FloatArray
from gpusim.core.clock import Clock, seconds
from gpusim.hardware.processor_sharing import advance, finish_s, shares
from gpusim.hardware.transfer import NEVER, Transfer


class ChannelServer:
    """Gives each channel's time to the transfers with work left on it, equally, after paced traffic has had its share.

    A transfer that has all channels to itself, and for which nobody waits, puts no event on the queue: its end is
    known, and it is closed when somebody next looks. As soon as anything else comes it is played like any other.

    Args:
        clock: The clock of the simulation.
        closed: Called with every transfer that has ended.
    """

    def __init__(self, clock: Clock, closed: Callable[[Transfer], None]) -> None:
        self._clock = clock
        self._closed = closed
        self._on_elastic_change: Callable[[], None] | None = None
        self._lone: Transfer | None = None
        self._running: list[Transfer] = []
        self._paced = 0.0
        self._since = 0
        self._wake: simpy.Event | None = None
        self._on_wait = self._watch  # bound once: every transfer gets it

    def start(
        self, demand_s: float | FloatArray, size_bytes: float | FloatArray, *, may_be_lone: bool = True
    ) -> Transfer:
        """Start a transfer; without *may_be_lone* its end is noted in its own tick in any case."""
        now = self._clock.now
        transfer = Transfer(None, now, demand_s, size_bytes, self._on_wait)
        if transfer.ideal_s == 0.0:
            transfer.lone = True
            self._close(transfer)
            return transfer
        lone = self._lone
        if lone is not None and lone.due <= now:  # `retire`, in the path of every kernel
            self._lone = None
            self._close(lone)
        if may_be_lone and not (self._running or self._lone or self._paced or self._on_elastic_change):
            transfer.lone = True
            self._lone = transfer
        else:
            self._rouse()
            self._settle()
            self._running.append(transfer)
            self._change_elastic()
        return transfer

    def in_flight(self) -> list[Transfer]:
        """Return the transfers that run now."""
        self.retire()
        return self._running if self._lone is None else [self._lone]

    def hook(self, on_elastic_change: Callable[[], None] | None) -> None:
        """Have *on_elastic_change* called after the number of transfers has changed."""
        self._on_elastic_change = on_elastic_change
        if on_elastic_change is not None and self._rouse():
            self._plan()

    def set_paced(self, share: float) -> None:
        """Give *share* of the time of every channel to paced traffic, until the next call."""
        if share != self._paced:
            self._rouse()
            self._settle()
            self._paced = share
            self._plan()

    # A transfer that has the channels to itself

    def retire(self) -> None:
        """Close a lone transfer whose time is over; all others are closed in time."""
        lone = self._lone
        if lone is not None and lone.due <= self._clock.now:
            self._lone = None
            self._close(lone)

    def _rouse(self) -> bool:
        """Play the lone transfer like any other from now on; tell whether there is one, which needs a plan."""
        self.retire()
        lone = self._lone
        if lone is None:
            return False
        self._lone, lone.lone = None, False
        self._running.append(lone)
        self._since = lone.start
        self._settle()
        return True

    def _watch(self, transfer: Transfer) -> simpy.Event:
        """Return an event for the end of *transfer*, the first that somebody asks for."""
        self.retire()
        if transfer.is_over:
            return self._clock.past_event(transfer)
        if self._rouse():
            self._plan()
        return self._clock.event()

    # Sharing

    def _on_wake(self, event: simpy.Event) -> None:
        """End what is due; a wakeup that a later plan replaced does nothing."""
        if event is not self._wake:
            return
        self._settle()
        now = self._clock.now
        ended = [transfer for transfer in self._running if transfer.due <= now]
        self._running = [transfer for transfer in self._running if transfer.due > now]
        for transfer in ended:
            self._close(transfer)
        self._change_elastic()

    def _settle(self) -> None:
        """Account for the time since the last change."""
        now = self._clock.now
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
        if self._on_elastic_change is not None:
            self._on_elastic_change()
        self._plan()

    def _plan(self) -> None:
        """Set when each transfer ends if nothing changes, and wake up at the first end."""
        self._wake = None
        if not self._running:
            return
        now, speed = self._clock.now, 1.0 - self._paced
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
            self._wake = self._clock.call_in(first - now, self._on_wake)

    def _going(self) -> list[Transfer]:
        """Transfers that are not through; one that is due now takes nothing more, though its wakeup may come later."""
        now = self._clock.now
        return [transfer for transfer in self._running if transfer.due > now]

    def _close(self, transfer: Transfer) -> None:
        transfer.close()
        self._closed(transfer)


def _left_s(transfers: Sequence[Transfer]) -> FloatArray:
    """Service still needed, (transfers, channels); one column if all are alike on all channels."""
    rows = [np.atleast_1d(transfer.left_s) for transfer in transfers]
    return np.stack(np.broadcast_arrays(*rows))
