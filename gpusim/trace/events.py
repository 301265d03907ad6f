"""Trace events: the JSON of Chrome's Trace Event Format, written as it comes.

Perfetto and chrome://tracing read it. Within a track events are written in the order of their time, and where two have
the same time in the order of their nesting; tracks are not ordered among each other, which readers do.

Source: Trace Event Format, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, TextIO

TICKS_PER_US: Final = 10**6
_INSIDE: Final = 1000
"""Ticks from the beginning of a span to the point of an arrow at it: viewers round to as many."""

_encode = json.JSONEncoder(separators=(",", ":")).encode

FlowPhase = Literal["s", "t", "f"]
"""An arrow starts, passes a span, ends in one."""


class Track(NamedTuple):
    """A row of spans that follow or enclose each other."""

    pid: int
    tid: int


def microseconds(tick: int) -> str:
    """Write a tick in microseconds, exactly."""
    return f"{tick // TICKS_PER_US}.{tick % TICKS_PER_US:06d}"


class EventWriter:
    """Writes events to a text file, one a line; holds none.

    Args:
        file: Open for writing.
        about: Facts on the run, for the head of the file.
    """

    def __init__(self, file: TextIO, about: Mapping[str, Any]) -> None:
        self.num_events = 0
        self._file = file
        self._num_tracks = 0
        head = json.dumps({"displayTimeUnit": "ns", "otherData": dict(about)})
        file.write(head.removesuffix("}") + ', "traceEvents": [')

    def close(self) -> None:
        """Write the end of the JSON; the file stays open."""
        self._file.write("\n]}\n")

    def process(self, pid: int, name: str, order: int) -> None:
        """Name a process; those of lower *order* come first."""
        self._name(pid, 0, "process_name", name=name)
        self._name(pid, 0, "process_sort_index", sort_index=order)

    def track(self, pid: int, name: str, order: int) -> Track:
        """Return a new track of a process; those of lower *order* come first."""
        self._num_tracks += 1
        track = Track(pid, self._num_tracks)
        self._name(*track, "thread_name", name=name)
        self._name(*track, "thread_sort_index", sort_index=order)
        return track

    def begin(self, track: Track, name: str, tick: int, args: Mapping[str, Any] | None = None) -> None:
        """Begin a span; until its end what begins on the track is part of it."""
        more = f',"args":{_encode(args)}' if args else ""
        self._write(
            f'"ph":"B","pid":{track.pid},"tid":{track.tid},"ts":{microseconds(tick)},"name":{_encode(name)}{more}'
        )

    def end(self, track: Track, tick: int) -> None:
        """End the span of a track that began last."""
        self._write(f'"ph":"E","pid":{track.pid},"tid":{track.tid},"ts":{microseconds(tick)}')

    def counter(self, pid: int, name: str, unit: str, tick: int, value: float) -> None:
        """Say what a quantity of a process, in a unit, is from now on; viewers show both words."""
        self._write(
            f'"ph":"C","pid":{pid},"ts":{microseconds(tick)},"name":{_encode(name)},'
            f'"args":{{{_encode(unit)}:{round(value)}}}'
        )

    def arrow(self, phase: FlowPhase, number: int, track: Track, tick: int) -> None:
        """Have arrow *number* start at, pass or end in the innermost span of a track that begins at *tick*.

        It does so a nanosecond later: where a span begins another one may end, which viewers may take instead.
        """
        enclosing = ',"bp":"e"' if phase == "f" else ""
        self._write(
            f'"ph":"{phase}","pid":{track.pid},"tid":{track.tid},"ts":{microseconds(tick + _INSIDE)},"id":{number},'
            f'"cat":"request","name":"request"{enclosing}'
        )

    def _name(self, pid: int, tid: int, what: str, **args: Any) -> None:
        self._write(f'"ph":"M","pid":{pid},"tid":{tid},"name":"{what}","args":{_encode(args)}')

    def _write(self, fields: str) -> None:
        self._file.write(f"{',' if self.num_events else ''}\n{{{fields}}}")
        self.num_events += 1
