"""A feed: the requests on their way to one engine, known as far ahead as their source can tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gpusim.core.clock import Clock
from gpusim.serving.request import Request

NEVER: Final = 2**63 - 1


class Feed:
    """Requests in order of arrival, those that have not come yet included.

    Args:
        clock: Of the simulation.
        refill: Gets more requests from the source, if it knows any now; returns False where it never will.
        refuse: Says why the engine can never run a request; None: it can.
        is_open: Whether arrivals depend on nothing that happens here, so that all of them are known ahead.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        refill: Callable[[], bool],
        refuse: Callable[[Request], str | None],
        is_open: bool,
    ) -> None:
        self.clock = clock
        self.is_open = is_open
        self.ticks: list[int] = []
        """Arrivals of `requests`, ascending."""
        self.requests: list[Request] = []
        """Those that can run and were not taken yet."""
        self.refused: list[Request] = []
        """Those that can never run and were not taken yet."""
        self.arrived = clock.event()
        """Happens when a request that can run comes to a feed that is not open."""
        self._refill = refill
        self._refuse = refuse
        self._is_exhausted = False

    def put(self, request: Request) -> None:
        """Add a request behind all others."""
        request.rejected_because = self._refuse(request)
        if request.rejected_because is None:
            self.ticks.append(request.arrival)
            self.requests.append(request)
        else:
            self.refused.append(request)
            return
        if not self.is_open and not self.arrived.triggered:
            self.arrived.succeed()

    def reach(self, number: int) -> None:
        """Have at least *number* requests here, if as many are known."""
        while len(self.requests) < number and not self._is_exhausted:
            self._is_exhausted = not self._refill()

    def reach_tick(self, tick: int) -> None:
        """Have all requests here that arrive by *tick*, and the first one after it."""
        while not self._is_exhausted and (not self.ticks or self.ticks[-1] <= tick):
            self._is_exhausted = not self._refill()

    def next_tick(self) -> int:
        """Return when the next request arrives that can run or not; `NEVER` where none is known."""
        self.reach(1)
        first = self.ticks[0] if self.ticks else NEVER
        return min(first, self.refused[0].arrival) if self.refused else first

    def take(self, number: int) -> None:
        """Forget the first *number* requests, which the engine has now."""
        del self.ticks[:number], self.requests[:number]

    def take_refused(self, now: int) -> list[Request]:
        """Take and return those that can never run and have arrived by tick *now*."""
        number = 0
        while number < len(self.refused) and self.refused[number].arrival <= now:
            number += 1
        taken, self.refused = self.refused[:number], self.refused[number:]
        return taken
