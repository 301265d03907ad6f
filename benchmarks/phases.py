"""Where the time of a run goes: python benchmarks/phases.py [--requests N] [--trace FILE] [--profile].

Plays the conversation of `benchmarks/cases.py` in this process with a stopwatch round each phase, and prints the CPU time
of each without that of those within it; how many planned steps were thrown away; bytes a step and a request keep.
Stopwatches cost a few percent. With --profile the functions that took most time by cProfile, which distorts more.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import cases
from speed_tables import table

import gpusim.simulation
from gpusim.plan import plan_document
from gpusim.results.request_log import RequestLog
from gpusim.results.result import Result
from gpusim.runtime import step_executor
from gpusim.runtime.folding import Folder
from gpusim.runtime.step_executor import StepExecutor
from gpusim.serving.advance import Blocks
from gpusim.serving.commit import Commit
from gpusim.serving.forecast import Forecast
from gpusim.serving.outlook import Outlook
from gpusim.serving.planner import Planner
from gpusim.simulation import Simulation
from gpusim.spec.document import Document

PHASES: Final[list[tuple[str, Any, str]]] = [
    ("planning", Planner, "look_ahead"),
    ("planning again", Planner, "replay"),
    ("fitting the forecast", Forecast, "learn"),
    ("placing blocks and channels", Blocks, "place"),
    ("laws", Outlook, "runs"),
    ("laws", Outlook, "shapes"),
    ("laws", StepExecutor, "time"),
    ("laws", Folder, "fixed_ticks"),
    ("laws", Folder, "attention_ticks"),
    ("confirming", Planner, "confirmed"),
    ("accounts of what moved", step_executor, "account_steps"),
    ("committing", Commit, "run"),
    ("logging requests", RequestLog, "append"),
    ("statistics", Result, "summary"),
    ("tables and Parquet", Result, "save"),
]
"""Phases, and the calls that they are."""
REST: Final = "clock, engine loop and sources"


class Stopwatch:
    """CPU seconds by phase; of phases within one another only the innermost runs."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._since = time.process_time()
        self._phases: list[str] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Let *name* run."""
        self._lap()
        self._phases.append(name)
        try:
            yield
        finally:
            self._lap()
            self._phases.pop()

    def _lap(self) -> None:
        now = time.process_time()
        if self._phases:
            self.seconds[self._phases[-1]] += now - self._since
        self._since = now

    def around(self, name: str, body: Callable[..., Any]) -> Callable[..., Any]:
        """Return *body* as a phase."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name):
                return body(*args, **kwargs)

        return timed

    def each(self, name: str, body: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """Return *body*, which makes an iterator, with each step of that as a phase."""

        def timed(*args: Any, **kwargs: Any) -> Iterator[Any]:
            items = body(*args, **kwargs)
            while True:
                with self.phase(name):
                    item = next(items, None)
                if item is None:
                    return
                yield item

        return timed


@contextmanager
def watched(stopwatch: Stopwatch, outlooks: list[int]) -> Iterator[None]:
    """Time every phase while this lasts, and add to *outlooks* the steps of each plan."""
    plain = [(owner, name, getattr(owner, name)) for _, owner, name in PHASES]
    drawing, look_ahead = gpusim.simulation.requests, Planner.look_ahead

    def counted(*args: Any) -> Outlook:
        outlook = look_ahead(*args)
        outlooks.append(outlook.num_steps)
        return outlook

    for phase, owner, name in PHASES:
        setattr(owner, name, stopwatch.around(phase, counted if name == "look_ahead" else getattr(owner, name)))
    gpusim.simulation.requests = stopwatch.each("drawing or reading requests", drawing)
    try:
        yield
    finally:
        gpusim.simulation.requests = drawing
        for owner, name, body in plain:
            setattr(owner, name, body)


def phases_of(scenario: dict[str, Any]) -> dict[str, Any]:
    """Run *scenario*, save it, and return the seconds of its phases, and counts of steps, plans and bytes."""
    stopwatch, outlooks = Stopwatch(), list[int]()
    with watched(stopwatch, outlooks), tempfile.TemporaryDirectory() as folder:
        with stopwatch.phase("reading the scenario, building the machine"):
            simulation = Simulation(plan_document(Document("phases", scenario, folder=Path())))
        with stopwatch.phase(REST):
            result = simulation.run()
        result.save(Path(folder) / "out")
    steps = sum(len(log.ends) for log in simulation.logs.values())
    return {
        "seconds": dict(stopwatch.seconds),
        "requests": len(simulation.requests),
        "plans": len(outlooks),
        "planned_steps": sum(outlooks),
        "steps": steps,
        "runs": sum(len(log.runs) for log in simulation.logs.values()),
        "bytes_per_step": sum(log.nbytes for log in simulation.logs.values()) / steps,
        "bytes_per_request": simulation.requests.nbytes / len(simulation.requests),
    }


def _report(found: dict[str, Any], start_up_s: float) -> str:
    seconds = {"start-up of Python, imports": start_up_s, **found["seconds"]}
    total = sum(seconds.values())
    shares = sorted(seconds.items(), key=lambda item: -item[1])
    phases = table("Phases", ["", "CPU s", "%"], [[k, f"{s:.3f}", f"{100 * s / total:.1f}"] for k, s in shares])
    planned, steps = found["planned_steps"], found["steps"]
    return f"""{phases}

{found["requests"]:,} requests, {steps:,} steps in {found["runs"]:,} runs of unchanged batch
{found["plans"]:,} plans of {planned / found["plans"]:.0f} steps; {100 * (planned - steps) / planned:.1f} % of planned steps thrown away
{found["bytes_per_step"]:.0f} B a step, {found["bytes_per_request"]:.0f} B a request in the logs"""


def main() -> None:
    """Print the tables."""
    start_up_s = time.process_time()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=cases.TRACE_REQUESTS[-1], metavar="N")
    parser.add_argument("--trace", type=Path, default=cases.TRACE, metavar="FILE", help="the Azure conversation trace")
    parser.add_argument("--profile", action="store_true", help="list functions instead")
    options = parser.parse_args()
    path = options.trace if options.trace.is_file() else None
    scenario = cases.conversation(path, options.requests, "conversation").scenario
    if not options.profile:
        print(_report(phases_of(scenario), start_up_s))
        return
    with cProfile.Profile() as profile, tempfile.TemporaryDirectory() as folder:
        result = Simulation(plan_document(Document("phases", scenario, folder=Path()))).run()
        result.save(Path(folder) / "out")
    pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(20)


if __name__ == "__main__":
    main()
