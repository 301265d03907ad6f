"""Watching a simulation without touching it.

A probe sees spans and counters; it returns nothing and changes nothing, so results are bit-identical with and without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Probe:
    """A probe that does nothing; subclasses write only the methods they use."""

    def span(self, where: str, what: str, start_s: float, end_s: float, args: Mapping[str, Any]) -> None:
        """See that component *where* did *what* from *start_s* to *end_s*."""

    def counter(self, where: str, what: str, time_s: float, value: float) -> None:
        """See that quantity *what* of component *where* has *value* from *time_s* on."""


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
