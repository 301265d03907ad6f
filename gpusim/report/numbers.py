"""Numbers for people: three significant digits, in a unit that suits them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

ABSENT: Final = "–"
"""Printed where there is no number."""

SCALES: Final = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9, "%": 100.0, "GB": 1e-9, "GB/s": 1e-9, "TB/s": 1e-12}
"""Units values are printed in, and how many of them an SI unit is."""


def digits(value: float | None, scale: float = 1.0) -> str:
    """Write *value* times *scale* with three significant digits, never as 1e+04; whole numbers keep all digits."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if isinstance(value, int) and scale == 1.0:
        return str(value)
    scaled = value * scale
    if scaled == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(float(f"{scaled:.2e}"))))
    return f"{round(scaled, decimals):.{max(decimals, 0)}f}"


def time_unit(values_s: Iterable[float | None]) -> str:
    """Return the unit in which the smallest of *values_s* (zeros aside) is at least 1, from s down to ns."""
    known = [abs(value) for value in values_s if value]
    smallest = min(known, default=1.0)
    return next((unit for unit in ("s", "ms", "us") if smallest * SCALES[unit] >= 1), "ns")
