"""Sources submit the requests of a workload when they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gpusim.core.clock import ARRIVAL, Clock, ticks
from gpusim.core.component import Process
from gpusim.serving.request import Request
from gpusim.serving.router import Router
from gpusim.workload.stream import RequestShape


class Source:
    """Submits requests, open loop at their arrival times, closed loop when one before them is over.

    Args:
        clock: Of the simulation.
        shapes: The requests, made as they are needed.
        router: Gets every request.
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
        if concurrency is None:
            clock.env.process(self._arrivals())
        else:
            for _ in range(concurrency):
                if self._is_exhausted:
                    break
                self._arrive_again()

    def over(self, request: Request) -> None:
        """Note that *request* is finished or rejected."""
        del request
        self._pending -= 1
        if not self._is_open:
            self._arrive_again()
        self._drain()

    def _arrivals(self) -> Process:
        for shape in self._shapes:
            assert shape.arrival_s is not None, "an open loop states every arrival"
            # Also a delay of 0 waits: for its turn among the events of this tick.
            yield self.clock.timeout(ticks(shape.arrival_s) - self.clock.now, priority=ARRIVAL)
            self._submit(shape)
        self._is_exhausted = True
        self._drain()

    def _arrive_again(self) -> None:
        """Let a client send its next request: in this tick, after what completes in it."""
        shape = next(self._shapes, None)
        if shape is None:
            self._is_exhausted = True
            return
        self._pending += 1
        arrival = self.clock.timeout(0, priority=ARRIVAL)
        assert arrival.callbacks is not None
        arrival.callbacks.append(lambda _: self._submit(shape, counted=True))

    def _submit(self, shape: RequestShape, *, counted: bool = False) -> None:
        self._pending += 0 if counted else 1
        self.num_submitted += 1
        request = Request(shape.index, self.clock.now, shape.prompt_tokens, shape.output_tokens)
        self._router.choose(request).submit(request)

    def _drain(self) -> None:
        if self._is_exhausted and self._pending == 0:
            self._on_drained()
