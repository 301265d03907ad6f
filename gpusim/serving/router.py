"""Routers hand the requests of one workload to several engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gpusim.serving.engine import Engine
from gpusim.serving.request import Request


class Router(Protocol):
    """Chooses an engine for a request."""

    def choose(self, request: Request) -> Engine:
        """Return the engine that will serve *request*."""
        ...


class RoundRobin:
    """Each engine in turn, by the request's number.

    Args:
        engines: That share the workload.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = tuple(engines)

    def choose(self, request: Request) -> Engine:
        """See `Router.choose`."""
        return self._engines[request.index % len(self._engines)]
