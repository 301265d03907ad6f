"""The command line: parse, call the API, print. Data go to stdout, notes to stderr.

Exit codes: 0 good, 1 a comparison failed, 2 bad input, 130 interrupted, 141 nobody reads on (``| head``). Each command is a
module of its own, and imports what it needs when it runs.
"""

from __future__ import annotations

from gpusim.cli import run, report, sweep, compare, explain, trace, check, listing, workload, validate, runs, calibrate  # isort: skip  the order in which --help lists them
from gpusim.cli.app import app, main

__all__ = [
    "app",
    "calibrate",
    "check",
    "compare",
    "explain",
    "listing",
    "main",
    "report",
    "run",
    "runs",
    "sweep",
    "trace",
    "validate",
    "workload",
]
