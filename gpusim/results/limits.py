"""Limits on changes, as people write them: ``itl.p99 > +5 %``, ``ttft.mean > 200 ms``, ``goodput < -3 %``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from gpusim.errors import GpusimError
from gpusim.results.change import UNITS, Change, Unit
from gpusim.spelling import unknown_name
from gpusim.units import parse_quantity

_LIMIT: Final = re.compile(r"\s*(?P<metric>[\w.]+)\s*(?P<compare>[<>]=?)\s*(?P<value>(?P<sign>[+-]?)[0-9.][^<>]*?)\s*")
_COMPARES: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_KINDS: Final[Mapping[Unit, str]] = {"s": "seconds", "/s": "per second", "tokens/s": "tokens/s"}
_EXAMPLE: Final = 'write METRIC > LIMIT, e.g. "itl.p99 > +5 %", "ttft.mean > 200 ms" or "goodput < -3 %"'


@dataclass(frozen=True, slots=True)
class Limit:
    """What must not be.

    Args:
        text: As it was written.
        metric: A key of `UNITS`.
        compare: ``>``, ``>=``, ``<`` or ``<=``.
        value: A part (0.05 is 5 %) or a quantity in SI.
        of: What is held against it: the change relative to the baseline, the change in the metric's unit, or the value of the
            run itself.
    """

    text: str
    metric: str
    compare: str
    value: float
    of: Literal["relative change", "change", "value"]

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Read *text*.

        A per cent is a change relative to the baseline, whatever its sign; another number with a sign is a change in the
        metric's own unit; one without a sign is a value of the run itself. Attainment and the share of rejected requests are
        parts themselves: of them, per cents without a sign are values.

        Raises:
            GpusimError: If it cannot be read; the message says how to write it.
        """
        found = _LIMIT.fullmatch(text)
        if found is None:
            raise GpusimError(f"--fail-if {text!r}: {_EXAMPLE}")
        metric, compare, written, sign = found.group("metric", "compare", "value", "sign")
        if metric not in UNITS:
            raise GpusimError(f"--fail-if {text!r}: {metric!r}: {unknown_name(metric, list(UNITS), 'metric')}")
        try:
            if written.endswith("%"):
                value = float(written.removesuffix("%")) / 100
                of: Literal["relative change", "value"] = (
                    "value" if _is_part(metric) and not sign else "relative change"
                )
                return cls(text.strip(), metric, compare, value, of)
            value = _quantity(written, UNITS[metric])
        except ValueError as error:
            raise GpusimError(f"--fail-if {text!r}: {error}") from None
        return cls(text.strip(), metric, compare, value, "change" if sign else "value")

    def is_broken(self, change: Change, *, surely: bool = False) -> bool:
        """Tell whether *change* is beyond the limit.

        Args:
            change: Of `metric`.
            surely: Only if its whole interval is, too; without an interval nothing is sure.
        """
        compare = _COMPARES[self.compare]
        measured = self._measured(change)
        if not surely:
            return measured is not None and compare(measured, self.value)
        ends = self._ends(change)
        return ends is not None and all(compare(end, self.value) for end in ends)

    def _measured(self, change: Change) -> float | None:
        if self.of == "value":
            return change.b
        return change.relative if self.of == "relative change" else change.b - change.a

    def _ends(self, change: Change) -> tuple[float, float] | None:
        """Return both ends of the interval of what is limited, in its unit."""
        if change.interval is None or (self.of == "relative change" and not change.a):
            return None
        factor = change.a if change.is_relative else 1.0
        low, high = (factor * end for end in change.interval)
        if self.of == "relative change":
            return low / change.a, high / change.a
        return (change.a + low, change.a + high) if self.of == "value" else (low, high)


def _is_part(metric: str) -> bool:
    return UNITS[metric] == "share"


def _quantity(written: str, unit: Unit) -> float:
    """Return *written* in SI; parts and numbers per request have no unit."""
    return parse_quantity(written, _KINDS[unit]) if unit in _KINDS else float(written)


def parse_part(text: str) -> float:
    """Return a part of the baseline written as a per cent.

    Raises:
        GpusimError: If *text* is not one, or negative.
    """
    number = text.strip().removesuffix("%")
    try:
        value = float(number) / 100
    except ValueError:
        value = -1.0
    if not text.strip().endswith("%") or not value >= 0:
        raise GpusimError(f'--at-least {text!r}: write a per cent, such as "1 %"')
    return value
