"""Watching a simulation without touching it.

A probe sees spans and counters; it returns nothing and changes nothing, so results are bit-identical with and without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpusim.core.clock import seconds


class Probe:
    """A probe that does nothing; subclasses write only the methods they use."""

    def span(self, where: str, what: str, start_s: float, end_s: float, args: Mapping[str, Any]) -> None:
        """See that component *where* did *what* from *start_s* to *end_s*."""

    def counter(self, where: str, what: str, time_s: float, value: float) -> None:
        """See that quantity *what* of component *where* has *value* from *time_s* on."""

    def span_ticks(self, where: str, what: str, start: int, end: int, args: Mapping[str, Any]) -> None:
        """See a span with its ticks, which is what components call; those who want seconds write `span`."""
        self.span(where, what, seconds(start), seconds(end), args)

    def counter_ticks(self, where: str, what: str, time: int, value: float) -> None:
        """See a counter with its tick, which is what components call; those who want seconds write `counter`."""
        self.counter(where, what, seconds(time), value)


class RecordingProbe(Probe):
    """Keeps everything it sees in lists; for tests and small studies."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, float, float, dict[str, Any]]] = []
        self.counters: list[tuple[str, str, float, float]] = []

    def span(self, where: str, what: str, start_s: float, end_s: float, args: Mapping[str, Any]) -> None:
        """Append the span to `spans`."""
        self.spans.append((where, what, start_s, end_s, dict(args)))

    def counter(self, where: str, what: str, time_s: float, value: float) -> None:
        """Append the counter to `counters`."""
        self.counters.append((where, what, time_s, value))
