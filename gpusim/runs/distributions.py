"""How times are distributed over the requests of a run: predicted, and measured where the folder has them."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from gpusim.runs.layout import Experiment
from gpusim.runs.workloads import read_requests

QUANTITIES: Final = ("ttft_s", "tpot_s", "e2e_s")
LEVELS: Final = tuple(1 - 10 ** (-step / 20) for step in range(1, 61))
"""From 0.11 to 0.999, evenly spaced in log(1 / (1 - p))."""


def quantiles(requests: pl.DataFrame) -> dict[str, list[float]]:
    """Return the quantiles at `LEVELS` of those of `QUANTITIES` that are columns of *requests*.

    A list ends where fewer than one request lies above.
    """
    found = {}
    for name in QUANTITIES:
        values = requests[name].drop_nulls().to_numpy() if name in requests.columns else np.empty(0)
        if len(values):
            levels = [level for level in LEVELS if len(values) * (1 - level) >= 1]
            found[name] = np.quantile(values, levels).tolist()
    return found


def measured_quantiles(experiment: Experiment) -> dict[str, list[float]]:
    """Return the same of the requests that were measured and did not fail; empty where the folder has none.

    Raises:
        SpecError: If the file of requests cannot be read.
    """
    file = experiment.workload.get("requests_file")
    if not file:
        return {}
    rows = read_requests(experiment.folder / str(file))
    return quantiles(rows.filter(pl.col("ok") == 1) if "ok" in rows.columns else rows)
