"""Routers hand the requests of one workload to several engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gpusim.serving.engine import Engine


class Router(Protocol):
    """Chooses an engine for a request."""

    @property
    def engines(self) -> Sequence[Engine]:
        """All it chooses from."""

    def choose(self, index: int) -> Engine:
        """Return the engine that will serve the request of that number."""
        ...


class RoundRobin:
    """Each engine in turn, by the request's number.

    Args:
        engines: That share the workload.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self.engines = tuple(engines)

    def choose(self, index: int) -> Engine:
        """See `Router.choose`."""
        return self.engines[index % len(self.engines)]
