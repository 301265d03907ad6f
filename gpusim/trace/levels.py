"""The counters of an engine: levels that hold from one tick to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gpusim.trace.events import EventWriter
from gpusim.trace.window import Window

COUNTERS: Final = {
    "num_decodes": ("decoding", "sequences"),
    "running": ("running", "requests"),
    "waiting": ("waiting", "requests"),
    "swapped": ("swapped", "requests"),
    "kv_blocks": ("KV blocks", "used"),
}
"""Name and unit of each."""


class Levels:
    """Shows counters where they change, from the beginning of a window on.

    Args:
        writer: Gets the events.
        pid: Process of the engine.
        window: Of the run.
    """

    def __init__(self, writer: EventWriter, pid: int, window: Window) -> None:
        self._writer = writer
        self._pid = pid
        self._since = window.first
        self._levels: dict[str, int] = {}
        self._shown: dict[str, int] = {}

    def set(self, tick: int, levels: Mapping[str, int]) -> None:
        """Have counters be at *levels* from *tick* on, no earlier than those before; what is said last of a tick holds."""
        if tick > self._since:
            self._show()
            self._since = tick
        self._levels.update(levels)

    def close(self, last_end: int) -> None:
        """Show what has not been shown yet, up to tick *last_end*."""
        if self._since <= last_end:
            self._show()

    def _show(self) -> None:
        for counter, level in self._levels.items():
            if self._shown.get(counter) != level:
                self._writer.counter(self._pid, *COUNTERS[counter], self._since, level)
        self._shown.update(self._levels)
