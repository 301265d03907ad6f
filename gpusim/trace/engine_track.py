"""The steps of one engine, and its counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gpusim.trace.events import EventWriter
from gpusim.trace.stage import STEPS
from gpusim.trace.window import Window

DECODING: Final = "decoding sequences"
_NAMES: Final = {
    "running": "requests running",
    "waiting": "requests waiting",
    "swapped": "requests swapped",
    "kv_blocks": "KV blocks used",
}


class EngineTrack:
    """Steps one after the other, with what each computes.

    Args:
        writer: Gets the events.
        pid: Process of the engine.
        window: Only steps that start in it are shown.
    """

    def __init__(self, writer: EventWriter, pid: int, window: Window) -> None:
        self._writer = writer
        self._pid = pid
        self.steps = writer.track(pid, "steps", STEPS)
        self._window = window
        self._last_end = -1
        self._before: dict[str, float] = {}
        """Counters as they were when the window began."""

    def runs(self, start: int, args: Mapping[str, Any]) -> None:
        """Show the steps of one batch, the first of which began at tick *start*."""
        window, ends = self._window, args["ends"]
        if start >= window.behind or ends[-1] <= window.first:
            return
        facts = {
            "decoding sequences": args["num_decodes"],
            "prefill tokens": args["num_prefill_tokens"],
            "tokens": args["num_tokens"],
        }
        for number, end in enumerate(ends.tolist(), args["first_step"]):
            if window.first <= start < window.behind:
                self._step(f"step {number}", start, end, facts)
            start = end

    def _step(self, name: str, start: int, end: int, facts: Mapping[str, int]) -> None:
        if self._last_end not in {-1, start}:
            self._writer.counter(self._pid, DECODING, self._last_end, 0)
        self._writer.begin(self.steps, name, start, facts)
        self._writer.end(self.steps, end)
        self._writer.counter(self._pid, DECODING, start, facts["decoding sequences"])
        self._last_end = end

    def count(self, what: str, time: int, value: float) -> None:
        """Show what a counter has come to; what it was before the window stands at its beginning."""
        if time < self._window.first:
            self._before[what] = value
            return
        self._show_before()
        if time <= self._window.last_end:
            self._writer.counter(self._pid, _NAMES[what], time, value)

    def close(self) -> None:
        """Show what has not been shown yet."""
        self._show_before()
        if self._last_end >= 0:
            self._writer.counter(self._pid, DECODING, self._last_end, 0)

    def _show_before(self) -> None:
        for what, value in self._before.items():
            self._writer.counter(self._pid, _NAMES[what], self._window.first, value)
        self._before.clear()
