"""A feed: the requests on their way to one engine, known as far ahead as their source can tell."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from operator import attrgetter
from typing import Final

from gpusim.core.clock import Clock
from gpusim.serving.request import Request

NEVER: Final = 2**63 - 1
_ORDER: Final = attrgetter("arrival", "index")


class Feed:
    """Requests in order of arrival, those that have not come yet included.

    Requests whose arrival is known are put in ahead, in their order. One that comes because another is over is put in when
    it comes: it stays apart, so that it moves nothing that is being planned or played, until the feed is looked at again.

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
        """Happens when a request that can run comes unannounced, to a feed that is not open."""
        self._unannounced: list[Request] = []
        self._refill = refill
        self._refuse = refuse
        self._is_exhausted = False

    def put(self, request: Request) -> None:
        """Add a request whose arrival is known, behind all others of which that was known."""
        if not self._can_run(request):
            return
        if self.requests and _ORDER(request) < _ORDER(self.requests[-1]):
            # One that came unannounced was faster than the source was asked.
            self._unannounced.append(request)
            self._sort_in()
        else:
            self.ticks.append(request.arrival)
            self.requests.append(request)

    def put_now(self, request: Request) -> None:
        """Add a request that comes in this tick, unannounced."""
        if self._can_run(request):
            self._unannounced.append(request)
            if not self.arrived.triggered:
                self.arrived.succeed()

    def _can_run(self, request: Request) -> bool:
        """Tell whether the engine can run *request*; else it is among those refused, if not for a reason of before."""
        request.rejected_because = request.rejected_because or self._refuse(request)
        if request.rejected_because is not None:
            insort(self.refused, request, key=_ORDER)
        return request.rejected_because is None

    def _sort_in(self) -> None:
        """Put those that came unannounced where they belong."""
        for request in self._unannounced:
            insort(self.requests, request, key=_ORDER)
        if self._unannounced:
            self.ticks = [request.arrival for request in self.requests]
            self._unannounced.clear()

    def reach(self, number: int) -> None:
        """Have at least *number* requests here, if as many are known."""
        self._sort_in()
        while len(self.requests) < number and not self._is_exhausted:
            self._is_exhausted = not self._refill()

    def reach_tick(self, tick: int) -> None:
        """Have all requests here that arrive by *tick*, and the first one after it, but for those that come unannounced."""
        while not self._is_exhausted and (not self.ticks or self.ticks[-1] <= tick):
            self._is_exhausted = not self._refill()

    def next_tick(self) -> int:
        """Return when the next request arrives that can run or not; `NEVER` where none is known."""
        self.reach(1)
        first = self.ticks[0] if self.ticks else NEVER
        return min(first, self.refused[0].arrival) if self.refused else first

    def has_arrived(self, now: int) -> bool:
        """Tell whether a request that can run has arrived by tick *now*."""
        self._sort_in()
        return bool(self.ticks) and self.ticks[0] <= now

    def arrived_by(self, now: int) -> list[Request]:
        """Return those that can run and have arrived by tick *now*."""
        self._sort_in()
        self.reach_tick(now)
        return [request for request in self.requests if request.arrival <= now]

    def is_too_early(self, request: Request, now: int) -> bool:
        """Tell whether *request* was expected by tick *now* and comes later, or behind one that came unannounced."""
        return request.arrival > now or any(_ORDER(other) < _ORDER(request) for other in self._unannounced)

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
