"""Percentile curves: the quantiles of each latency, evenly spread over log(1 / (1 - p))."""

from __future__ import annotations

from typing import Final

import numpy as np

from gpusim.results.result import Result
from gpusim.results.statistics import Sample, quantiles_s
from gpusim.results.tokens import token_gaps

LATENCIES: Final = ("ttft", "tpot", "itl", "e2e")
_PER: Final = 1_000_000
_MOST: Final = 1e5
"""1 / (1 - p) of the last point."""
_POINTS: Final = 24
"""In a decade."""


def samples(result: Result) -> dict[str, Sample]:
    """Return what the percentiles of each of `LATENCIES` are taken of: measured requests that finished."""
    record = result.record
    rows = result.requests
    counts = rows["measured"] & (rows["status"] == "finished")
    kept = rows.filter(counts)
    found = {name: Sample(kept[f"{name}_s"].drop_nulls().to_numpy()) for name in ("ttft", "tpot", "e2e")}
    found["itl"] = token_gaps(record.requests, record.steps, counts.to_numpy())
    return {name: found[name] for name in LATENCIES}


def curve(sample: Sample) -> list[tuple[float, float]]:
    """Return 1 / (1 - p) and the quantile at p in seconds, from the smallest to the largest observation."""
    if not sample.count:
        return []
    decades = np.log10(min(sample.count, _MOST))
    tails = np.logspace(0.0, decades, max(2, round(decades * _POINTS) + 1))
    levels = [round(_PER * (1.0 - 1.0 / tail)) for tail in tails]
    return list(zip(tails.tolist(), quantiles_s(sample, levels, per=_PER), strict=True))
