"""What metrics are called in tables, and the units they are shown in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gpusim.report.numbers import time_unit
from gpusim.results.change import Unit

LATENCY_TITLES: Final = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2e": "E2E", "queue": "queue"}
"""In the order in which tables have them."""
LATENCY_KEYS: Final = {f"{name}_s": title for name, title in LATENCY_TITLES.items()}
"""The same by the keys of a summary."""


def metric_title(name: str) -> str:
    """Return the title of a metric of `UNITS`: ``p99 TTFT`` of ``ttft.p99``."""
    latency, _, statistic = name.partition(".")
    return f"{statistic} {LATENCY_TITLES[latency]}" if latency in LATENCY_TITLES else name


def metric_unit(unit: Unit, values: Iterable[float | None]) -> str:
    """Return the unit in which *values*, counted in *unit*, are shown."""
    return time_unit(values) if unit == "s" else {"share": "%"}.get(unit, unit)
