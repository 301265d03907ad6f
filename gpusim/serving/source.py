"""Sources bring the requests of a workload to the feeds of its engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from gpusim.core.clock import ARRIVAL, Clock, ticks
from gpusim.serving.engine import Engine
from gpusim.serving.request import Request
from gpusim.serving.router import Router
from gpusim.workload.shapes import RequestShape

NOT_SENT: Final = "the turn before it was rejected"
"""Why the rest of a session is rejected."""


class Source:
    """Brings requests: those that state their arrival ahead of it, others when the one before them is over.

    Args:
        clock: Of the simulation.
        shapes: The requests, made as they are needed; those that follow another stand directly behind it.
        router: Says which engine gets each request.
        concurrency: Clients of a closed loop; None: the requests state their arrival, but for those that follow another.
        may_follow: Whether requests may follow others; where none does, nothing that happens changes an arrival.
        on_drained: Called when the last request is over.
    """

    def __init__(
        self,
        clock: Clock,
        shapes: Iterator[RequestShape],
        router: Router,
        *,
        concurrency: int | None,
        may_follow: bool = False,
        on_drained: Callable[[], None],
    ) -> None:
        self.clock = clock
        self.num_submitted = 0
        self._shapes = shapes
        self._router = router
        self._is_closed = concurrency is not None
        self._may_follow = may_follow
        self._on_drained = on_drained
        self._ahead: RequestShape | None = None
        """The first request of the next session, which ended the reading of the last one."""
        self._followers: dict[int, RequestShape] = {}
        """Requests that wait for another to be over, by its number."""
        self._pending = 0
        self._is_exhausted = False
        self._is_drained = False
        for engine in router.engines:
            engine.connect(_nobody if self._is_closed else self._bring, is_open=not (self._is_closed or may_follow))
        if not self._is_closed:
            clock.call_in(0, self._begin)
        for _ in range(concurrency or 0):
            if not self._is_exhausted:
                self._begin_next(is_first=True)

    def over(self, request: Request, api: int = 0) -> None:
        """Note that *request* is finished or rejected; its client knows, and is heard again, *api* ticks later."""
        self._pending -= 1
        follower = self._followers.pop(request.index, None)
        if follower is not None and request.status == "rejected":
            self._send_in(0, follower, arrival=request.arrival, rejected_because=NOT_SENT)
        elif follower is not None:
            self._send_in(api + ticks(follower.think_s), follower)
        elif self._is_closed:
            self._begin_next(api)
        self._drain()

    def _begin(self, _: object) -> None:
        """Bring a first request; a workload without any is over at once."""
        self._bring()

    def _bring(self) -> bool:
        """Put the next request that states its arrival into its feed; tell whether there was one."""
        shape = self._next()
        if shape is None:
            self._drain()
            return False
        assert shape.arrival_s is not None, "whoever follows nobody states an arrival"
        engine, request = self._request(shape, ticks(shape.arrival_s))
        engine.feed.put(request)
        return True

    def _begin_next(self, api: int = 0, *, is_first: bool = False) -> None:
        """Let a client think, and begin its next session, which may be one request; its first one comes at once."""
        shape = self._next()
        if shape is not None:
            self._send_in(0 if is_first else api + ticks(shape.think_s), shape)

    def _next(self) -> RequestShape | None:
        """Return the next request that follows none, and keep those that follow it; None: there are no more."""
        first = next(self._shapes, None) if self._ahead is None else self._ahead
        self._ahead = None
        if first is None:
            self._is_exhausted = True
            return None
        self._pending += 1
        if self._may_follow:
            for shape in self._shapes:
                if shape.after is None:
                    self._ahead = shape
                    break
                self._followers[shape.after] = shape
                self._pending += 1
        return first

    def _send_in(
        self, delay: int, shape: RequestShape, *, arrival: int | None = None, rejected_because: str | None = None
    ) -> None:
        """Send a request in *delay* ticks: after what completes in that one, before what is decided in it."""
        send = partial(self._send, shape, arrival, rejected_because)
        self.clock.call_in(delay, send, priority=ARRIVAL)

    def _send(self, shape: RequestShape, arrival: int | None, rejected_because: str | None, _: object) -> None:
        engine, request = self._request(shape, self.clock.now if arrival is None else arrival)
        request.rejected_because = rejected_because
        engine.feed.put_now(request)
        # A client that is refused goes on at once, and not with the engine's next decision.
        engine.refuse_arrived(self.clock.now)

    def _request(self, shape: RequestShape, arrival: int) -> tuple[Engine, Request]:
        """Return a request with the engine that will serve it."""
        self.num_submitted += 1
        is_followed = self._is_closed or shape.index in self._followers
        lengths = (shape.prompt_tokens, shape.output_tokens)
        request = Request(shape.index, arrival, *lengths, shape.content, shape.priority, is_followed)
        return self._router.choose(shape.index), request

    def _drain(self) -> None:
        if self._is_exhausted and self._pending == 0 and not self._is_drained:
            self._is_drained = True
            self._on_drained()


def _nobody() -> bool:
    return False
