"""Reading timelines back, and what the Trace Event Format asks of them."""

from __future__ import annotations

import io
import itertools
import json
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

from gpusim.plan import Plan
from gpusim.simulation import Simulation
from gpusim.trace.record import Traced, trace
from gpusim.trace.window import find_window

INSIDE = 1000
"""Ticks from the beginning of a span to an arrow's point in it."""


@dataclass
class Span:
    """A span of a track; times in ticks."""

    name: str
    start: int
    end: int
    args: dict[str, Any]
    depth: int


@dataclass
class Timeline:
    """A timeline that was read back and checked."""

    events: list[dict[str, Any]]
    spans: dict[tuple[str, str], list[Span]]
    """By names of process and track, in the order of their beginnings."""

    @cached_property
    def counters(self) -> dict[tuple[str, str], list[tuple[int, float]]]:
        """(tick, value) of each counter by process and name with unit, in the order of time; of two of one tick the later one holds."""
        names, found = process_names(self.events), defaultdict(list)
        for event in self.events:
            if event["ph"] == "C":
                [(unit, value)] = event["args"].items()
                found[names[event["pid"]], f"{event['name']} {unit}"].append((tick(event), value))
        return {key: sorted(points, key=lambda point: point[0]) for key, points in found.items()}

    def counter(self, process: str, name: str) -> list[tuple[int, float]]:
        """Return the points of a counter, named with its unit; none if there is no such."""
        return self.counters.get((process, name), [])

    def level(self, process: str, name: str, at: int) -> float:
        """Return what a counter is from a tick on."""
        points = self.counter(process, name)
        return points[bisect_right(points, at, key=lambda point: point[0]) - 1][1]

    def integral(self, process: str, name: str) -> float:
        """Return the sum over time, in seconds, of a counter that ends with 0."""
        points = self.counter(process, name)
        assert points[-1][1] == 0
        pairs = itertools.pairwise(points)
        return sum(value * (after - at) for (at, value), (after, _) in pairs) / 1e12

    def arrows(self) -> dict[int, list[dict[str, Any]]]:
        """Return the points of each arrow."""
        found = defaultdict(list)
        for event in self.events:
            if event["ph"] in "stf":
                found[event["id"]].append(event)
        return found


def tick(event: dict[str, Any]) -> int:
    """Return the tick of an event; its microseconds are exact."""
    found = event["ts"] * 10**6
    assert found == int(found), "a fraction of a picosecond"
    return int(found)


def process_names(events: list[dict[str, Any]]) -> dict[int, str]:
    """Return the names of processes."""
    return {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "process_name"}


def read_timeline(text: str) -> Timeline:
    """Parse a timeline and check it against the rules of the format."""
    events = json.loads(text, parse_float=Decimal)["traceEvents"]
    processes = process_names(events)
    named = [e for e in events if e["ph"] == "M" and e["name"] == "thread_name"]
    tracks = {(e["pid"], e["tid"]): e["args"]["name"] for e in named}
    assert len(set(processes.values())) == len(processes)
    assert len({(pid, name) for (pid, _), name in tracks.items()}) == len(tracks)
    spans = defaultdict(list)
    is_open = defaultdict(list)
    last = defaultdict(int)
    for event in events:
        kind, pid = event["ph"], event["pid"]
        assert kind in "MBECstf"
        assert pid in processes
        if kind == "M":
            continue
        if kind == "C":
            [value] = event["args"].values()
            assert value >= 0
            tick(event)
            continue
        place = pid, event["tid"]
        assert place in tracks
        if kind in "BE":
            assert last[place] <= tick(event), "the events of a track are in the order of time"
            last[place] = tick(event)
        if kind == "B":
            span = Span(event["name"], tick(event), -1, event.get("args", {}), len(is_open[place]))
            is_open[place].append(span)
            spans[processes[pid], tracks[place]].append(span)
        elif kind == "E":
            is_open[place].pop().end = tick(event)
    assert not any(is_open.values()), "every B has an E"
    timeline = Timeline(events, dict(spans))
    check_arrows(timeline, processes, tracks)
    return timeline


def check_arrows(timeline: Timeline, processes: dict[int, str], tracks: dict[tuple[int, int], str]) -> None:
    """Every arrow has one start and one end, goes on in time, and each point is within a span that just began."""
    starts = {key: {span.start for span in spans} for key, spans in timeline.spans.items()}
    for points in timeline.arrows().values():
        assert [point["ph"] for point in points] == ["s", *"t" * (len(points) - 2), "f"]
        assert {(point["cat"], point["name"]) for point in points} == {("request", "request")}
        times = [tick(point) for point in points]
        assert times == sorted(times)
        for point, at in zip(points, times, strict=True):
            assert at - INSIDE in starts[processes[point["pid"]], tracks[point["pid"], point["tid"]]]


def run_and_trace(
    plan: Plan, from_s: float | None = None, to_s: float | None = None
) -> tuple[Simulation, Traced, Timeline]:
    """Simulate *plan*, trace a window of it; return the simulation, what was traced, and the timeline."""
    simulation = Simulation(plan)
    record = simulation.run().record
    file = io.StringIO()
    window = find_window(record.steps, from_s, to_s)
    traced = trace(plan, file, window)
    assert traced.agrees(record)
    assert traced.is_whole
    assert max(log.ends[-1] for log in traced.record.steps.values() if len(log)) >= window.last_end
    timeline = read_timeline(file.getvalue())
    assert len(timeline.events) == traced.num_events
    return simulation, traced, timeline


def steps_of_gpu(timeline: Timeline, process: str) -> list[tuple[Span, list[Span]]]:
    """Return the steps on the track of a GPU's kernels, each with the spans that are directly in it."""
    found: list[tuple[Span, list[Span]]] = []
    for span in timeline.spans[process, "kernels"]:
        if span.depth == 0:
            found.append((span, []))
        elif span.depth == 1:
            found[-1][1].append(span)
    return found
