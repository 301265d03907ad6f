"""A latency that is a float of seconds, and can be held against text with a unit: ``result.itl.p99 < "50 ms"``."""

from __future__ import annotations

import math
from typing import Final

from gpusim.errors import SpecError
from gpusim.units import parse_quantity

_SCALES: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_DIGITS: Final = 6
"""Significant digits of what is shown; a simulated value is rarely nearer than that to a limit it misses."""


class Duration(float):
    """Seconds. `repr` shows them with a unit; all else is a float's, and what is computed of them is plain floats.

    ``<``, ``<=``, ``>`` and ``>=`` take text with a unit of time too; ``==`` does not.

    Raises:
        SpecError: On comparing with text that is no time.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return shown(self)

    __str__ = float.__repr__

    def __lt__(self, other: float | str) -> bool:
        return float.__lt__(self, in_seconds(other))

    def __le__(self, other: float | str) -> bool:
        return float.__le__(self, in_seconds(other))

    def __gt__(self, other: float | str) -> bool:
        return float.__gt__(self, in_seconds(other))

    def __ge__(self, other: float | str) -> bool:
        return float.__ge__(self, in_seconds(other))


def in_seconds(limit: float | str) -> float:
    """Return the seconds of *limit*: a number of them, or text with a unit of time.

    Raises:
        SpecError: If it is text that is no time.
    """
    if not isinstance(limit, str):
        return limit
    try:
        return parse_quantity(limit, "seconds")
    except ValueError as error:
        raise SpecError(f"{limit!r} is no limit of a latency: {error}") from None


def shown(value_s: float, digits: int = _DIGITS) -> str:
    """Write *value_s* with *digits* significant digits, in the largest unit of which it is at least one."""
    unit = next((unit for unit, scale in _SCALES.items() if abs(value_s) >= scale), "ns")
    if not value_s or not math.isfinite(value_s):
        unit = "s"
    return f"{value_s / _SCALES[unit]:.{digits}g} {unit}"
