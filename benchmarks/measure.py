"""What benchmarks measure with: process CPU time, peak memory of a subprocess, and a loop of SimPy to compare with.

Times of one machine say little about another, and not much about the same one under other load. So a figure is given
beside the same machine's speed at a fixed task, bare SimPy timeouts, measured in the same run.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import simpy

NUM_TIMEOUTS = 500_000
"""Of the loop that figures are compared with."""
ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Environment in which NumPy keeps to one core; CPU time of threads that wait for each other says little."""


def cpu_s(body: Callable[[], object]) -> float:
    """Return the seconds of CPU time, user and system, that this process spends in *body*."""
    start = time.process_time()
    body()
    return time.process_time() - start


def median_of(number: int, body: Callable[[], float]) -> float:
    """Return the median of what *number* calls of *body* return."""
    return statistics.median(body() for _ in range(number))


def simpy_timeouts_per_s(number: int = NUM_TIMEOUTS) -> float:
    """Return how many bare timeouts of one process SimPy plays in a second of CPU time."""
    environment = simpy.Environment()

    def wait() -> Generator[simpy.Event, Any, None]:
        for _ in range(number):
            yield environment.timeout(1)

    environment.process(wait())
    return number / cpu_s(environment.run)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a subprocess took."""

    cpu_s: float
    """User and system time."""
    wall_s: float
    peak_bytes: int
    """Largest resident set; that of the caller if that was larger."""


def usage_of(arguments: Sequence[str]) -> Usage:
    """Run this Python with *arguments* to its end; return what it took.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    start = time.perf_counter()
    environment = {**os.environ, **ONE_THREAD}
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    unit = 1 if sys.platform == "darwin" else 1024
    return Usage(usage.ru_utime + usage.ru_stime, time.perf_counter() - start, usage.ru_maxrss * unit)
