"""Gaps between tokens: percentiles over all tokens of a run, predicted and measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Final

from gpusim.results.delivery import Delivery
from gpusim.results.result import Result
from gpusim.results.statistics import quantiles_s
from gpusim.results.step_log import StepLog
from gpusim.results.tokens import token_gaps
from gpusim.runs.layout import Experiment

_PER_MILLE: Final = range(1, 1000)
_LOWEST: Final = 490
"""Per mille of the lowest percentile that is compared."""


@dataclass(frozen=True, slots=True)
class Gap:
    """One percentile of the gaps of a run."""

    percentile: str
    """Rounded below p99: what files call p49.7 is p50. Above p98 measured gaps are rare stalls, not steps."""
    measured_s: float
    predicted_s: float

    @property
    def error(self) -> float:
        """Predicted / measured - 1."""
        return self.predicted_s / self.measured_s - 1


def gap_quantiles(result: Result) -> list[float]:
    """Return the quantiles, at 1 to 999 per mille, of all gaps in seconds; none if no request has two tokens."""
    return _quantiles(result, result.record.steps)


def jittered_gap_quantiles(result: Result, mean_s: float) -> list[float]:
    """Return likewise those of an open loop without jitter as they would be with some of mean *mean_s*; none if that is 0."""
    if not mean_s:
        return []
    logs = result.record.steps
    deliveries = {name: Delivery(result.record.seed, name, mean_s) for name in logs}
    return _quantiles(result, {name: log.delivered_by(deliveries[name]) for name, log in logs.items()})


def _quantiles(result: Result, steps: Mapping[str, StepLog]) -> list[float]:
    requests = result.record.requests
    sample = token_gaps(requests, steps, requests.has_status("finished"))
    return quantiles_s(sample, _PER_MILLE) if sample.count else []


def gaps(experiment: Experiment, predicted: Sequence[float]) -> list[Gap]:
    """Return percentiles from p50 on that were measured, each beside the one of *predicted* at its level.

    Args:
        experiment: With what was measured.
        predicted: As `gap_quantiles` or `jittered_gap_quantiles` returns it.
    """
    stated = experiment.data.get("measured")
    measured = stated.get("token_gap_s") if isinstance(stated, Mapping) else None
    if not isinstance(measured, Mapping) or not predicted:
        return []
    levels = {_per_mille(name): value for name, value in measured.items() if value}
    return [
        Gap(_name(level), float(value), predicted[_PER_MILLE.index(level)])
        for level, value in sorted(levels.items())
        if _LOWEST <= level <= _PER_MILLE[-1]
    ]


def _name(level: int) -> str:
    return f"p{level / 10 if level > 990 else round(level / 10)}"


def _per_mille(name: str) -> int:
    """Return the level of a percentile that a file calls ``p98.0``; 0 if it is none."""
    found = re.fullmatch(r"p(\d+(?:\.\d+)?)", name)
    return round(float(found[1]) * 10) if found else 0


def gap_summary(found: Mapping[str, Sequence[Gap]]) -> dict[str, Any]:
    """Return the gaps of runs by name, with their errors as fractions."""
    return {name: [asdict(gap) | {"error": gap.error} for gap in mine] for name, mine in found.items() if mine}


def mean_gap_errors(found: Sequence[Sequence[Gap]]) -> dict[str, float]:
    """Return the mean size of the error of each percentile over runs, in order of the percentiles."""
    every = [gap for mine in found for gap in mine]
    names = sorted({gap.percentile for gap in every}, key=lambda name: float(name[1:]))
    return {name: fmean(abs(gap.error) for gap in every if gap.percentile == name) for name in names}
