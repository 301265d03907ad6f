"""What requests that were measured one by one tell of stalls at the start, and of steps beside a long queue."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import polars as pl
from accuracy import markdown
from serving_tables import signed

from gpusim.core.arrays import FloatArray
from gpusim.runs.layout import Experiment
from gpusim.runs.predictions import Prediction
from gpusim.runs.workloads import read_requests

FIRST: Final = 100
"""Requests among which kernels are compiled and all prompts are seen for the first time."""
PATIENCE_S: Final = 300.0
"""After which clients of these runs give up."""
LONG_QUEUES: Final = ("h100-mixtral-8x7b-tp2-reasoning-e12", "h100-codellama-34b-tp2-reasoning-t160939")
BATCH: Final = 126
"""Of 128 sequences at most: a full one, in the mean of a request's time."""
QUEUES: Final = (0, 100, 200, 400, 600, 800, 1000)


def _requests(experiment: Experiment) -> pl.DataFrame | None:
    file = experiment.workload.get("requests_file")
    if not file:
        return None
    rows = read_requests(experiment.folder / str(file))
    return rows if "ok" in rows.columns else None


def without_first(predictions: Sequence[Prediction]) -> str:
    """Return errors of TTFT of the scored runs beside those with the first requests left out of what was measured."""
    rows = []
    for prediction in predictions:
        requests = _requests(prediction.experiment)
        if requests is None or not prediction.experiment.is_scored:
            continue
        served = requests.filter(pl.col("ok") == 1)
        times = served["ttft_s"].to_numpy(), served["ttft_s"][FIRST:].to_numpy()
        row = {"run": prediction.experiment.name}
        for title, level in (("mean", None), ("p99", 0.99)):
            predicted = prediction.metrics[f"ttft_{title}_s"]
            for among, values in zip(("all", "later"), times, strict=True):
                measured = values.mean() if level is None else np.quantile(values, level)
                row[f"{title}_{among}"] = signed(predicted / float(measured) - 1)
        rows.append(row)
    columns = {
        "mean_all": "ttft mean",
        "mean_later": "without them",
        "p99_all": "ttft p99",
        "p99_later": "without them",
    }
    return markdown(pl.DataFrame(rows), {"run": "run", **columns})


def long_queues(predictions: Sequence[Prediction]) -> str:
    """Return how much longer a token took than simulated, by how many requests waited beside a full batch."""
    known = {prediction.experiment.name: prediction for prediction in predictions}
    parts = [_long_queue(known[name]) for name in LONG_QUEUES if name in known]
    tables = pl.DataFrame([row for rows, _ in parts for row in rows])
    text = markdown(
        tables, {"run": "run", "waiting": "requests waiting", "requests": "requests", "excess": "ms a token more"}
    )
    return "\n".join([text, *(slope for _, slope in parts), ""])


def _long_queue(prediction: Prediction) -> tuple[list[dict[str, object]], str]:
    requests = _requests(prediction.experiment)
    assert requests is not None, "a run whose requests were measured"
    waiting, running = beside(requests)
    served = requests.filter(pl.col("ok") == 1)
    full = running > BATCH
    waiting, excess_s = waiting[full], served["tpot_s"].to_numpy()[full] - prediction.metrics["itl_mean_s"]
    rows: list[dict[str, object]] = []
    for low, high in pairwise(QUEUES):
        inside = (waiting >= low) & (waiting < high)
        if inside.any():
            mean = f"{1e3 * excess_s[inside].mean():+.1f}"
            name = prediction.experiment.name
            rows.append({"run": name, "waiting": f"{low} to {high}", "requests": int(inside.sum()), "excess": mean})
    slope, start = np.polyfit(waiting, excess_s, 1)
    explained = np.corrcoef(waiting, excess_s)[0, 1] ** 2
    share = start / prediction.metrics["itl_mean_s"]
    line = (
        f"{prediction.experiment.name}: {1e3 * start:.1f} ms ({100 * share:.0f} % of the simulated time) without a queue, and "
        f"{1e6 * slope:.1f} us a waiting request (r² = {explained:.2f}).\n"
    )
    return rows, line


def beside(requests: pl.DataFrame) -> tuple[FloatArray, FloatArray]:
    """Return how many requests waited and ran while each of those that were served got its tokens, in the mean of time.

    Args:
        requests: In order of arrival; clients of those that failed waited for `PATIENCE_S`.
    """
    served = requests.filter(pl.col("ok") == 1)
    arrived = served["arrival_s"].to_numpy()
    first, last = arrived + served["ttft_s"].to_numpy(), arrived + served["e2e_s"].to_numpy()
    gone = np.concatenate([first, requests.filter(pl.col("ok") != 1)["arrival_s"].to_numpy() + PATIENCE_S])
    waiting = _mean_between(requests["arrival_s"].to_numpy(), gone, first, last)
    return waiting, _mean_between(first, last, first, last)


def _mean_between(enter: FloatArray, leave: FloatArray, start: FloatArray, end: FloatArray) -> FloatArray:
    """Return how many are inside between each *start* and *end*, in the mean of time, if they *enter* and *leave* then."""
    mean: FloatArray = (_held(enter, end) - _held(leave, end) - _held(enter, start) + _held(leave, start)) / (
        end - start
    )
    return mean


def _held(events: FloatArray, until: FloatArray) -> FloatArray:
    """Return the sum over events of the time from each until *until*, where that is later."""
    ordered = np.sort(events)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    number = np.searchsorted(ordered, until)
    held: FloatArray = number * until - sums[number]
    return held
