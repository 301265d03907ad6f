"""Recording: a run is simulated again up to the end of a window, which is written while it happens."""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TextIO

import numpy as np

from gpusim.files import write_whole
from gpusim.plan import Plan
from gpusim.results.summary import RunRecord
from gpusim.simulation import OnFinished, Simulation
from gpusim.trace.events import EventWriter
from gpusim.trace.probe import TraceProbe
from gpusim.trace.requests import write_requests
from gpusim.trace.stage import Stage
from gpusim.trace.waiting import write_waiting
from gpusim.trace.window import Window
from gpusim.version import __version__

_LEVEL: Final = 6
"""Of gzip: nearly as small as 9, in half the time."""


@dataclass(frozen=True, slots=True)
class Traced:
    """What was written, and the simulation that it shows."""

    record: RunRecord
    """Up to the end of the window."""
    num_events: int
    is_whole: bool
    """Whether it went on to the end of the window; not if it was interrupted."""

    def agrees(self, run: RunRecord) -> bool:
        """Whether its steps ended in the same ticks as those of *run*."""
        pairs = [(log.ends, run.steps[name].ends) for name, log in self.record.steps.items()]
        return all(np.array_equal(ends, expected[: len(ends)]) for ends, expected in pairs)


def trace(plan: Plan, file: TextIO, window: Window, on_finished: OnFinished | None = None) -> Traced:
    """Simulate *plan* up to the end of *window*, kernel by kernel in it, and write its events to *file*.

    A keyboard interrupt ends it early; what is written is whole JSON in any case.

    Args:
        plan: Of the run.
        file: Open for writing.
        window: From `find_window`.
        on_finished: See `Simulation`.
    """
    simulation = Simulation(plan, on_finished=on_finished, kernel_between=window.between)
    scenario = plan.scenario
    about = {"gpusim": __version__, "scenario": scenario.name, "seed": scenario.seed}
    writer = EventWriter(file, about)
    stage = Stage(writer, simulation)
    probe = TraceProbe(stage, window)
    simulation.probes.append(probe)
    _stop_behind(window, simulation, probe)
    record = simulation.run().record
    now = simulation.clock.now
    is_whole = record.complete or now > window.last_end
    window = replace(window, last_end=min(max(window.last_end, probe.last_end), now))
    probe.close(window.last_end)
    for write in (write_requests, write_waiting):
        write(stage, window, record.requests, record.steps, probe.engines)
    writer.close()
    return Traced(record, writer.num_events, is_whole)


def _stop_behind(window: Window, simulation: Simulation, probe: TraceProbe) -> None:
    """Have the simulation stop when all steps of *window* are over, a little later than they were if need be.

    Beside copies, steps that are played end within a percent of where they do when they are folded (docs/folding.md).
    """
    latest = window.last_end + (window.last_end - window.first) // 20

    def stop(_: object) -> None:
        now = simulation.clock.now
        if probe.num_steps < window.num_steps and now < latest:
            simulation.clock.call_in(1 + (latest - now) // 10, stop)
        else:
            simulation.stop()

    simulation.clock.call_in(window.last_end + 1, stop)


def write_timeline(plan: Plan, path: Path, window: Window, on_finished: OnFinished | None = None) -> Traced:
    """Write what `trace` does to *path*, gzipped; the file is there once it is whole.

    Raises:
        SpecError: If it cannot be written.
    """
    traced: list[Traced] = []

    def write(part: Path) -> None:
        with gzip.open(part, "wb", compresslevel=_LEVEL) as packed, io.TextIOWrapper(packed, "utf-8") as file:
            traced.append(trace(plan, file, window, on_finished))

    write_whole(path, write)
    return traced[0]
