"""How sure a change is: its interval, from the same requests in both runs, drawn again in blocks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gpusim.explain.groups import groups_of
from gpusim.results.comparison import compare_some
from gpusim.results.result import Result

CONFIDENCE: Final = 0.95
"""Of each interval alone."""
METRICS: Final = {
    "itl_p50_s": "itl.p50",
    "itl_p99_s": "itl.p99",
    "ttft_p50_s": "ttft.p50",
    "ttft_p99_s": "ttft.p99",
}
"""Figures that get an interval, and what `gpusim.compare` calls them."""

Intervals = dict[str, tuple[float, float] | None]
"""Of the change of each of `METRICS`, as parts of the stated value; None where there are too few requests."""


def intervals(stated: Result, new: Result, groups: Iterable[str]) -> dict[str, Intervals]:
    """Return the intervals of what changed from the *stated* run to a *new* one, of each of the *groups*."""
    before, after = groups_of(stated), groups_of(new)
    found = {}
    for group in groups:
        if not (before[group].any() and after[group].any()):
            found[group] = dict.fromkeys(METRICS)
            continue
        some = before[group], after[group]
        versus = compare_some(stated, new, some, metrics=list(METRICS.values()), confidence=CONFIDENCE)
        known = {change.metric: change.interval for change in versus.changes if change.is_relative}
        found[group] = {figure: known.get(metric) for figure, metric in METRICS.items()}
    return found
