"""Sources bring the requests of a workload to the feeds of its engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import simpy

from gpusim.core.clock import ARRIVAL, Clock, ticks
from gpusim.serving.request import Request
from gpusim.serving.router import Router
from gpusim.workload.stream import RequestShape


class Source:
    """Brings requests: in an open loop ahead of their arrival times, in a closed one when one before them is over.

    Args:
        clock: Of the simulation.
        shapes: The requests, made as they are needed.
        router: Says which engine gets each request.
        concurrency: Clients of a closed loop; None: the requests state their arrival.
        on_drained: Called when the last request is over.
    """

    def __init__(
        self,
        clock: Clock,
        shapes: Iterator[RequestShape],
        router: Router,
        *,
        concurrency: int | None,
        on_drained: Callable[[], None],
    ) -> None:
        self.clock = clock
        self.num_submitted = 0
        self._shapes = shapes
        self._router = router
        self._is_open = concurrency is None
        self._on_drained = on_drained
        self._pending = 0
        self._is_exhausted = False
        self._is_drained = False
        for engine in router.engines:
            engine.connect(self._bring if self._is_open else _nobody, is_open=self._is_open)
        if self._is_open:
            clock.call_in(0, self._begin)
        for _ in range(concurrency or 0):
            if not self._is_exhausted:
                self._arrive_again()

    def over(self, request: Request) -> None:
        """Note that *request* is finished or rejected."""
        del request
        self._pending -= 1
        if not self._is_open:
            self._arrive_again()
        self._drain()

    def _begin(self, _: simpy.Event) -> None:
        """Bring a first request; a workload without any is over at once."""
        self._bring()

    def _bring(self) -> bool:
        """Put the next request of an open loop into its feed; tell whether there was one."""
        shape = next(self._shapes, None)
        if shape is None:
            self._is_exhausted = True
            self._drain()
            return False
        assert shape.arrival_s is not None, "an open loop states every arrival"
        self._submit(shape, ticks(shape.arrival_s))
        return True

    def _arrive_again(self) -> None:
        """Let a client send its next request: in this tick, after what completes in it."""
        shape = next(self._shapes, None)
        if shape is None:
            self._is_exhausted = True
            return
        arrival = self.clock.timeout(0, priority=ARRIVAL)
        assert arrival.callbacks is not None
        self._pending += 1
        arrival.callbacks.append(lambda _: self._submit(shape, self.clock.now, counted=True))

    def _submit(self, shape: RequestShape, arrival: int, *, counted: bool = False) -> None:
        self._pending += 0 if counted else 1
        self.num_submitted += 1
        request = Request(shape.index, arrival, shape.prompt_tokens, shape.output_tokens, shape.content, shape.priority)
        engine = self._router.choose(shape.index)
        engine.feed.put(request)
        if not self._is_open:
            # A client that is refused goes on at once, and not with the engine's next decision.
            engine.refuse_arrived(arrival)

    def _drain(self) -> None:
        if self._is_exhausted and self._pending == 0 and not self._is_drained:
            self._is_drained = True
            self._on_drained()


def _nobody() -> bool:
    return False
