"""Speed of whole runs: python benchmarks/speed.py [--quick] [--json FILE] [--trace FILE].

Output tokens per second of CPU time of the command `gpusim run SCENARIO --out DIR`, user and system, from start-up to
the last Parquet file; its peak memory; how CPU time grows with the number of requests; what foreign traffic and ways of serving cost;
kernel detail; start-up. Beside them SimPy's bare timeouts, timed next to each run: docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import cases
import kernel_detail
import speed_tables
from cases import Case
from measure import Usage, median_of, simpy_timeouts_per_s, usage_of

from gpusim.version import __version__

RUNS = 3
START_UP_RUNS = 5


@dataclass(frozen=True, slots=True)
class Speed:
    """What a case took: medians over its runs."""

    case: str
    requests: int
    tokens: int
    """Output tokens."""
    steps: int
    runs: int
    """Times it was run."""
    cpu_s: float
    tokens_per_cpu_s: float
    tokens_per_timeout: float
    """Tokens in the time of one bare timeout of SimPy, timed before each run."""
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Growth:
    """Exponents of CPU time in the number of requests."""

    overall: float
    """Slope of the line of least squares through the logarithms."""
    between: list[float]
    """Slopes between successive points."""


def speeds(group: Sequence[Case], runs: int) -> list[Speed]:
    """Run all cases of *group* in turn, *runs* times, so that a change of the machine's mood meets them alike."""
    taken: list[list[tuple[float, Usage, dict[str, int]]]] = [[] for _ in group]
    for _ in range(runs):
        for case, mine in zip(group, taken, strict=True):
            mine.append((simpy_timeouts_per_s(), *_run(case)))
    return [_speed(case, mine) for case, mine in zip(group, taken, strict=True)]


def _run(case: Case) -> tuple[Usage, dict[str, int]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenario, out = folder / "scenario.yaml", folder / "out"
        scenario.write_text(json.dumps(case.scenario), encoding="utf-8")
        usage = usage_of(["-m", "gpusim", "run", str(scenario), "--out", str(out)])
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    finished = summary["requests"]["finished"]
    if finished != case.num_requests:
        raise RuntimeError(f"{case.name}: {finished} of {case.num_requests} requests finished")
    engines = summary["engines"].values()
    return usage, {key: sum(engine[key] for engine in engines) for key in ("produced_tokens", "num_steps")}


def _speed(case: Case, taken: Sequence[tuple[float, Usage, dict[str, int]]]) -> Speed:
    counts = taken[0][2]
    tokens = counts["produced_tokens"]
    cpu_s = statistics.median(usage.cpu_s for _, usage, _ in taken)
    return Speed(
        case.name,
        case.num_requests,
        tokens,
        counts["num_steps"],
        len(taken),
        cpu_s,
        tokens / cpu_s,
        statistics.median(tokens / usage.cpu_s / timeouts for timeouts, usage, _ in taken),
        max(usage.peak_bytes for _, usage, _ in taken),
    )


def growth(points: Sequence[tuple[int, float]]) -> Growth:
    """Return how CPU seconds grow with requests, over at least two *points* of both."""
    logs = [(math.log(requests), math.log(cpu_s)) for requests, cpu_s in points]
    overall = statistics.linear_regression(*zip(*logs, strict=True)).slope
    return Growth(overall, [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(logs)])


def start_up(runs: int) -> dict[str, dict[str, float]]:
    """Return median seconds, wall and CPU, until gpusim is imported, has shown its help, has run one request."""
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "one.yaml"
        scenario.write_text(json.dumps(cases.twin(1).scenario), encoding="utf-8")
        commands = {
            "import gpusim": ["-c", "import gpusim"],
            "gpusim --help": ["-m", "gpusim", "--help"],
            "gpusim run, 1 request": ["-m", "gpusim", "run", str(scenario)],
            "the same, --out DIR": ["-m", "gpusim", "run", str(scenario), "--out", str(Path(folder) / "out")],
        }
        taken = {name: [usage_of(command) for _ in range(runs)] for name, command in commands.items()}
    return {
        name: {
            "wall_s": statistics.median(usage.wall_s for usage in usages),
            "cpu_s": statistics.median(usage.cpu_s for usage in usages),
        }
        for name, usages in taken.items()
    }


def kernel_speeds(runs: int, output_tokens: int) -> dict[str, float]:
    """Return the steps per CPU second of kernel detail, by case."""
    return {
        name: median_of(runs, lambda case=case: kernel_detail.steps_per_s(case, output_tokens))
        for name, case in kernel_detail.CASES.items()
    }


def circumstances() -> dict[str, Any]:
    """Return what figures depend on beside gpusim."""
    return {
        "gpusim": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "simpy", "polars")},
        "processors": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "timeouts_per_s": median_of(RUNS, simpy_timeouts_per_s),
    }


def conversation_speeds(path: Path | None, *, quick: bool) -> list[Speed]:
    """Return the speeds of trace and twin; what takes minutes is run once."""
    runs = 1 if quick else RUNS
    rows = []
    for number in cases.TRACE_REQUESTS:
        both = [cases.twin(number)] if path is None else [cases.trace(path, number), cases.twin(number)]
        rows += speeds(both, runs)
    for number in () if quick else cases.LONG_REQUESTS:
        rows += speeds([cases.twin(number)], 1)
    return rows


def growth_of(rows: Sequence[Speed], start_up_s: float) -> dict[str, dict[str, Growth]]:
    """Return the growth of trace and twin, with start-up and without."""
    points = {case: [(row.requests, row.cpu_s) for row in rows if row.case == case] for case in ("trace", "twin")}
    return {
        case: {
            "whole": growth(mine),
            "without_start_up": growth([(requests, cpu_s - start_up_s) for requests, cpu_s in mine]),
        }
        for case, mine in points.items()
        if mine
    }


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="in less than a minute: short runs only, each of them once"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    parser.add_argument("--trace", type=Path, default=cases.TRACE, metavar="FILE", help="the Azure conversation trace")
    options = parser.parse_args()
    path = options.trace if options.trace.is_file() else None
    if path is None:
        print(f"no trace at {options.trace}: the twin only", file=sys.stderr)
    runs = 1 if options.quick else RUNS
    figures: dict[str, Any] = {"circumstances": circumstances()}
    print(speed_tables.circumstances(figures["circumstances"]), flush=True)
    figures["start_up"] = start_up(START_UP_RUNS)
    print(speed_tables.start_up(figures["start_up"]), flush=True)
    rows = conversation_speeds(path, quick=options.quick)
    figures["speed"] = [asdict(row) for row in rows]
    print(speed_tables.speed(figures["speed"]), flush=True)
    exponents = growth_of(rows, figures["start_up"]["the same, --out DIR"]["cpu_s"])
    figures["growth"] = {case: {name: asdict(g) for name, g in of.items()} for case, of in exponents.items()}
    print(speed_tables.growth(figures["growth"]), flush=True)
    figures["foreign"] = [asdict(row) for row in speeds(cases.foreign(path, cases.FOREIGN_REQUESTS), runs)]
    print(speed_tables.foreign(figures["foreign"]), flush=True)
    number = cases.FOREIGN_REQUESTS if options.quick else cases.TRACE_REQUESTS[-1]
    figures["served"] = [asdict(row) for row in speeds(cases.served(path, number), runs)]
    print(speed_tables.served(figures["served"]), flush=True)
    output_tokens = kernel_detail.QUICK_OUTPUT_TOKENS if options.quick else kernel_detail.OUTPUT_TOKENS
    figures["kernel_detail"] = kernel_speeds(runs, output_tokens)
    print(speed_tables.kernel_detail(figures["kernel_detail"], figures["circumstances"]["timeouts_per_s"]), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
