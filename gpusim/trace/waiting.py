"""How many requests of each engine wait: those that have arrived, are not over, do not run and are not swapped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from gpusim.core.arrays import IntArray
from gpusim.results.request_log import RequestLog
from gpusim.results.step_log import StepLog
from gpusim.trace.engine_track import EngineTrack
from gpusim.trace.levels import Levels
from gpusim.trace.stage import Stage
from gpusim.trace.window import Window


def write_waiting(
    stage: Stage, window: Window, log: RequestLog, steps: Mapping[str, StepLog], engines: Mapping[str, EngineTrack]
) -> None:
    """Write the counter of those that wait; see `write_requests`."""
    last_step = np.full(len(log), -1)
    last_step[log.segments["request"]] = log.segments["last_step"]  # a request's last segment comes last
    for code, (engine, of_steps) in enumerate(steps.items()):
        own = (log.rows["engine"] == code) & ~log.has_status("rejected")
        over = of_steps.ends[last_step[own & log.has_status("finished")]]
        levels = Levels(stage.writer, stage.engine(engine), window)
        for tick, number in _waiting(window, log.rows["arrival_ps"][own], over, engines[engine].seated):
            levels.set(tick, {"waiting": number})
        levels.close(window.last_end)


def _waiting(
    window: Window, arrivals: IntArray, over: IntArray, seated: Mapping[int, int]
) -> Iterator[tuple[int, int]]:
    """Return from which tick on how many requests wait.

    Args:
        window: Of the run.
        arrivals: Ticks of all requests of the engine.
        over: When those were over that are.
        seated: How many run or are swapped, by the tick from which on they do.
    """
    arrived, ended, changes = np.sort(arrivals), np.sort(over), np.array(list(seated))
    ticks = np.union1d(changes, arrived[(arrived > window.first) & (arrived <= window.last_end)])
    there = np.searchsorted(arrived, ticks, side="right") - np.searchsorted(ended, ticks, side="right")
    numbers = there - np.array(list(seated.values()))[np.searchsorted(changes, ticks, side="right") - 1]
    yield from zip(ticks.tolist(), numbers.tolist(), strict=True)
