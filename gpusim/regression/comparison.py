"""What moved from a baseline, beyond which tolerance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from gpusim.errors import SpecError
from gpusim.regression.baseline import Baseline
from gpusim.spelling import unknown_name

RTOL: Final = 0.02
ATOL_S: Final = 1e-6
_GOOD_WHEN_LARGE: Final = frozenset({"requests_per_s", "output_tokens_per_s", "goodput_per_s", "finished"})

Unit = Literal["s", "/s", ""]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a metric may be from its baseline: `rtol` of it or `atol_s`, whichever is more.

    Args:
        rtol: Relative, of all metrics but those in *rtol_of*.
        atol_s: Seconds, of latencies.
        rtol_of: Relative, by metric (``itl.p99``) or by latency (``itl``); infinity leaves it out.
    """

    rtol: float = RTOL
    atol_s: float = ATOL_S
    rtol_of: Mapping[str, float] = field(default_factory=dict)

    def of(self, name: str) -> float:
        """Return the relative tolerance of the metric *name*."""
        group = name.partition(".")[0]
        return self.rtol_of.get(name, self.rtol_of.get(group, self.rtol))

    def check(self, baseline: Baseline) -> None:
        """Check it against the metrics of *baseline*.

        Raises:
            SpecError: If a tolerance is negative, or of a metric that is unknown.
        """
        known = [name for _, values in _parts(baseline) for name in values]
        known += sorted({name.partition(".")[0] for name in baseline.latency_s})
        for name, rtol in {"": self.rtol, **self.rtol_of}.items():
            if name and name not in known:
                raise SpecError(f"rtol_of {name!r}: {unknown_name(name, known, 'metric')}")
            if not rtol >= 0:
                raise SpecError(f"{f'rtol_of {name!r}' if name else 'rtol'} must be 0 or more, not {rtol}")
        if not self.atol_s >= 0:
            raise SpecError(f"atol must be 0 s or more, not {self.atol_s} s")


@dataclass(frozen=True, slots=True)
class Move:
    """A metric that is not what it was, in SI; None where there is no number."""

    name: str
    unit: Unit
    before: float | None
    now: float | None
    rtol: float

    @property
    def ratio(self) -> float | None:
        """(Now - before) / before; None if one is missing or the baseline is 0."""
        return (self.now - self.before) / self.before if self.before and self.now is not None else None

    @property
    def is_better(self) -> bool | None:
        """Whether it moved to the good side; None where that cannot be said."""
        if self.before is None or self.now is None:
            return None
        return (self.now > self.before) == (self.name in _GOOD_WHEN_LARGE)


def moves(before: Baseline, now: Baseline, tolerance: Tolerance) -> list[Move]:
    """Return the metrics that moved beyond *tolerance*, to either side."""
    return [
        Move(name, unit, value, current, tolerance.of(name))
        for name, unit, value, current in _pairs(before, now)
        if not _is_within(value, current, tolerance.of(name), tolerance.atol_s if unit == "s" else 0.0)
    ]


def _parts(baseline: Baseline) -> list[tuple[Unit, Mapping[str, float | None]]]:
    return [("s", baseline.latency_s), ("/s", baseline.rate), ("", dict(baseline.requests))]


def _pairs(before: Baseline, now: Baseline) -> Iterator[tuple[str, Unit, float | None, float | None]]:
    for (unit, values), (_, current) in zip(_parts(before), _parts(now), strict=True):
        for name in dict.fromkeys([*current, *values]):
            yield name, unit, values.get(name), current.get(name)


def _is_within(before: float | None, now: float | None, rtol: float, atol: float) -> bool:
    if before is None or now is None:
        return before is now or rtol == float("inf")
    return before == now or abs(now - before) <= max(rtol * abs(before), atol)
