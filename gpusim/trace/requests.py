"""The requests of a window: a span each, with its phases, and arrows to the steps that served it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from gpusim.core.arrays import IntArray
from gpusim.core.clock import seconds
from gpusim.results.request_log import NONE, RequestLog
from gpusim.results.step_log import StepLog
from gpusim.trace.engine_track import EngineTrack
from gpusim.trace.events import EventWriter, FlowPhase, Track
from gpusim.trace.stage import REQUESTS, Lanes, Stage
from gpusim.trace.window import Window


class _Phases(NamedTuple):
    """When a request went on, in ticks."""

    arrival: int
    scheduled: int
    """`NONE`: it still waits."""
    first_token: int
    """`NONE`: it has none."""
    end: int
    """Where it has not ended: that of the window."""


def write_requests(
    stage: Stage, window: Window, log: RequestLog, steps: Mapping[str, StepLog], engines: Mapping[str, EngineTrack]
) -> None:
    """Write the requests that were there in *window*, by arrival.

    Args:
        stage: Gets the events.
        window: Of the run.
        log: All requests of the run, up to the end of the window at least.
        steps: Of each engine.
        engines: Their tracks.
    """
    arrows = 0
    writer = stage.writer
    rows, segments = log.rows, log.segments
    first_segment = np.searchsorted(segments["request"], np.arange(len(rows) + 1))
    is_open = ~(log.has_status("finished") | log.has_status("rejected"))
    for code, (engine, of_steps) in enumerate(steps.items()):
        starts, ends, shown = of_steps.starts, of_steps.ends, engines[engine]
        lanes = Lanes(writer, stage.engine(engine), "requests", REQUESTS)
        own = np.flatnonzero((rows["engine"] == code) & ~log.has_status("rejected"))
        for row in own[np.argsort(rows["arrival_ps"][own], kind="stable")].tolist():
            of_row = segments[first_segment[row] : first_segment[row + 1]]
            phases = _phases(rows[row], of_row, ends, window.last_end if is_open[row] else None)
            if phases.arrival >= window.last_end or phases.end <= window.first:
                continue
            track = lanes.take(max(phases.arrival, window.first), min(phases.end, window.last_end))
            _write_span(writer, track, window, phases, rows[row])
            tokens = (tick for tick in _token_steps(of_row, starts) if window.first <= tick < window.behind)
            served = sorted({*shown.prefills[int(rows["index"][row])], *tokens})
            if served:
                arrows += 1
                at = max(phases.arrival, window.first)
                for phase, place, tick in _arrow(track, at, shown.steps, served):
                    writer.arrow(phase, arrows, place, tick)


def _phases(row: Any, segments: Any, ends: IntArray, open_end: int | None) -> _Phases:
    first_token = int(ends[segments["first_step"][0]]) if len(segments) else NONE
    end = open_end if open_end is not None else int(ends[segments["last_step"][-1]])
    return _Phases(int(row["arrival_ps"]), int(row["scheduled_ps"]), first_token, end)


def _write_span(writer: EventWriter, track: Track, window: Window, phases: _Phases, row: Any) -> None:
    """Write the span of a request and those of its phases, cut to the window."""

    def cut(tick: int) -> int:
        return phases_end if tick == NONE else min(max(tick, window.first), window.last_end)

    phases_end = min(phases.end, window.last_end)
    facts = {
        "prompt_tokens": int(row["prompt_tokens"]),
        "output_tokens": int(row["output_tokens"]),
        "arrival_s": seconds(phases.arrival),
        "preemptions": int(row["num_preemptions"]),
    }
    writer.begin(track, f"request {row['index']}", cut(phases.arrival), facts)
    bounds = [cut(tick) for tick in (phases.arrival, phases.scheduled, phases.first_token)]
    for name, start, end in zip(("queue", "prefill", "decode"), bounds, [*bounds[1:], phases_end], strict=True):
        if end > start:
            writer.begin(track, name, start)
            writer.end(track, end)
    writer.end(track, phases_end)


def _token_steps(segments: Any, starts: IntArray) -> Iterator[int]:
    """Return the ticks at which steps started that gave a request a token."""
    for segment in segments:
        yield from starts[segment["first_step"] : segment["last_step"] + 1].tolist()


def _arrow(track: Track, at: int, steps: Track, served: list[int]) -> Iterator[tuple[FlowPhase, Track, int]]:
    """Return the points of an arrow from a request at tick *at* to the steps that started at *served*."""
    yield "s", track, at
    for tick in served[:-1]:
        yield "t", steps, tick
    yield "f", steps, served[-1]
