"""The metrics of a run as the README of ``data/serving`` defines them."""

from __future__ import annotations

from typing import Final

import polars as pl

from gpusim.errors import SimulationError
from gpusim.results.result import Result

_QUANTILES: Final = {"p90": 0.9, "p99": 0.99}


def finished(result: Result) -> pl.DataFrame:
    """Return the requests that have finished.

    Raises:
        SimulationError: If none has.
    """
    requests = result.requests.filter(pl.col("status") == "finished")
    if not len(requests):
        raise SimulationError("no request has finished")
    return requests


def run_metrics(requests: pl.DataFrame) -> dict[str, float]:
    """Return means and percentiles over finished *requests*.

    The time per output token of a request is (e2e - ttft) / (output tokens - 1). Where all outputs are alike its mean is
    (mean e2e - mean ttft) / (output tokens - 1), as the README has it;
    there is none if no request has two tokens.
    """
    found = {}
    if requests["tpot_s"].count():
        found["itl_mean_s"] = _number(requests["tpot_s"].mean())
    for name in ("ttft", "e2e"):
        values = requests[f"{name}_s"]
        found[f"{name}_mean_s"] = _number(values.mean())
        for title, level in _QUANTILES.items():
            found[f"{name}_{title}_s"] = _number(values.quantile(level, "linear"))
    return found


def _number(value: object) -> float:
    assert isinstance(value, float), "a finished request has times"
    return value
