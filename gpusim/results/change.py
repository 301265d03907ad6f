"""Changes between two runs: how large, how sure, and whether for better or worse."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from gpusim.errors import GpusimError
from gpusim.results.bootstrap import Replicates, spread
from gpusim.results.observations import PERCENTILES
from gpusim.spelling import unknown_name

Verdict: TypeAlias = Literal[
    "better",
    "worse",
    "better here",
    "worse here",
    "no change within noise",
    "too small to matter",
    "the same",
    "too few requests to tell",
]
"""``here``: for the requests that both runs served, which are too few to tell of others."""
Unit: TypeAlias = Literal["s", "/s", "tokens/s", "share", "per request"]

LATENCIES: Final = ("ttft", "itl", "tpot", "e2e", "queue")
UNITS: Final[Mapping[str, Unit]] = {
    **{f"{name}.{statistic}": "s" for name in LATENCIES for statistic in ("mean", *PERCENTILES)},
    "throughput": "tokens/s",
    "goodput": "/s",
    "attainment": "share",
    "rejected": "share",
    "preemptions": "per request",
}
"""Every metric that is compared, in the order it is printed, and what it is counted in."""
_MORE_IS_BETTER: Final = {"throughput", "goodput", "attainment"}


def check_metrics(names: Iterable[str]) -> None:
    """Check that every name is one of `UNITS`.

    Raises:
        GpusimError: With the first that is not, and what was probably meant.
    """
    for name in names:
        if name not in UNITS:
            raise GpusimError(f"{name!r}: {unknown_name(name, list(UNITS), 'metric')}")


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of two runs.

    Args:
        metric: Its name (`UNITS`).
        a: In the baseline, in SI.
        b: In the other run.
        change: b / a - 1; b - a of shares, and where either is 0 in some sample, which leaves no ratio.
        is_relative: Which of the two it is.
        interval: Confidence interval of `change`; None where too little was observed.
        p_value: Chance of a change as large if there were none, this metric alone; None as above.
        verdict: In words.
    """

    metric: str
    a: float
    b: float
    change: float
    is_relative: bool
    interval: tuple[float, float] | None
    p_value: float | None
    verdict: Verdict

    @property
    def unit(self) -> Unit:
        """What a and b are counted in."""
        return UNITS[self.metric]

    @property
    def relative(self) -> float | None:
        """Change as a part of a; None where a is 0."""
        return self.b / self.a - 1 if self.a else None

    @property
    def is_sure(self) -> bool:
        """Whether it is more than noise, all metrics considered."""
        return self.verdict in {"better", "worse", "too small to matter"}


def change_of(
    metric: str, a: Replicates, b: Replicates, *, is_paired: bool, confidence: float, most_degrees: float
) -> Change:
    """Measure one change; its verdict is not yet given.

    The logarithm of the ratio (or the difference) is taken for normal, with the spread it has in the bootstrap, and
    Student's t for the number of blocks it rests on.

    Args:
        metric: Its name.
        a: Its value in the baseline.
        b: Its value in the other run.
        is_paired: Sample i of both was drawn alike.
        confidence: Of the interval, for this metric alone.
        most_degrees: Of Student's t; 0 if there is not enough for an interval.
    """
    from scipy.special import stdtr, stdtrit  # noqa: PLC0415 - slow to import

    is_known = most_degrees > 0 and a.is_finite and b.is_finite
    is_relative = (min(a.smallest, b.smallest) if is_known else min(a.estimate, b.estimate)) > 0 and UNITS[
        metric
    ] != "share"
    change = b.estimate / a.estimate - 1 if is_relative else b.estimate - a.estimate
    found = Change(metric, a.estimate, b.estimate, change, is_relative, None, None, "too few requests to tell")
    if not is_known:
        return found
    old, new = (a.log(), b.log()) if is_relative else (a, b)
    estimate = new.estimate - old.estimate
    error, degrees = spread([new.minus(old)] if is_paired else [old, new])
    degrees = min(degrees, most_degrees)
    half = error * float(stdtrit(degrees, (1 + confidence) / 2))
    low, high = estimate - half, estimate + half
    interval = (math.expm1(low), math.expm1(high)) if is_relative else (low, high)
    if found.unit == "share":
        interval = (max(interval[0], -a.estimate), min(interval[1], 1 - a.estimate))
    # Without any spread a change is sure, and no change too.
    deviations = abs(estimate) / (error or math.ulp(0.0))
    p_value = 2 * float(stdtr(degrees, -deviations))
    return replace(found, interval=interval, p_value=p_value, verdict="no change within noise")


def judged(changes: Sequence[Change], *, is_paired: bool, confidence: float, at_least: float) -> list[Change]:
    """Give verdicts that hold together: with probability *confidence* none of them calls noise a change.

    Where requests are too few for that, a change between runs of the same requests still is one for these: a simulation
    repeats to the digit.

    Reference: Holm, 1979, "A simple sequentially rejective multiple test procedure".

    Args:
        changes: Of all metrics that are looked at.
        is_paired: Both runs served the same requests.
        confidence: Of all verdicts together.
        at_least: Smallest change that matters, as a part of the baseline.
    """
    known = sorted((c for c in changes if c.p_value is not None), key=lambda c: (c.p_value, c.metric))
    sure: set[str] = set()
    for place, change in enumerate(known):
        if change.p_value is None or change.p_value > (1 - confidence) / (len(known) - place):
            break
        sure.add(change.metric)
    return [
        replace(change, verdict=_verdict(change, is_paired=is_paired, is_sure=change.metric in sure, at_least=at_least))
        for change in changes
    ]


def _verdict(change: Change, *, is_paired: bool, is_sure: bool, at_least: float) -> Verdict:
    is_measured = change.interval is not None
    if not (is_measured or is_paired):
        return "too few requests to tell"
    if change.a == change.b and change.interval in {None, (0.0, 0.0)}:
        return "the same"
    if is_measured and not is_sure:
        return "no change within noise"
    if change.relative is not None and abs(change.relative) < at_least:
        return "too small to matter"
    if (change.b > change.a) == (change.metric in _MORE_IS_BETTER):
        return "better" if is_measured else "better here"
    return "worse" if is_measured else "worse here"
