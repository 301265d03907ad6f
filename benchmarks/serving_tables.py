"""Tables of docs/serving-accuracy.md: errors of predicted serving runs, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl
from accuracy import markdown

from gpusim.calibrate.engine_model import FITTED_METRICS
from gpusim.runs.layout import METRICS
from gpusim.runs.predictions import Prediction
from gpusim.runs.scores import beside_peers, mean_errors, mean_gaps, run_gaps, run_rows

TITLES: Final = {name: name.removesuffix("_s").replace("_", " ") for name in METRICS}
STALLS: Final = "p99.8"
"""Percentile of gaps between tokens that is shown, but is no goal."""


def means(in_sample: Sequence[Prediction], left_out: Sequence[Prediction]) -> str:
    """Return the mean size of the errors over the scored runs, and their medians."""
    rows = []
    for title, predictions in (("in sample", in_sample), ("each GPU taken for unmeasured", left_out)):
        found = mean_errors(predictions)
        rows.append({"who": title, "runs": found["runs"]} | {name: found[name] for name in METRICS})
        middle = {name: found[f"{name}_median"] for name in METRICS}
        rows.append({"who": "half of the runs are within", "runs": found["runs"]} | middle)
    return markdown(pl.DataFrame(rows), {"who": "", "runs": "runs", **TITLES})


def by_run(in_sample: Sequence[Prediction], left_out: Sequence[Prediction]) -> str:
    """Return the signed errors of each run; those that are not scored stand in brackets."""
    other = {row["experiment"]: row for row in run_rows(left_out)}
    rows = []
    for row in run_rows(in_sample):
        name = row["experiment"]
        title = name if row["scored"] else f"({name})"
        own = {metric: signed(row.get(metric)) for metric in METRICS}
        itl = signed(other.get(name, {}).get("itl_mean_s"))
        rows.append({"experiment": title, "decodes": f"{row['mean_decodes']:.0f}"} | own | {"left_out": itl})
    columns = {"experiment": "run", "decodes": "decodes", **TITLES, "left_out": "itl, GPU left out"}
    return markdown(pl.DataFrame(rows), columns)


def errors(predictions: Sequence[Prediction]) -> dict[str, dict[str, float]]:
    """Return the signed errors of each run by the titles of metrics, and by the percentiles of gaps between tokens."""
    found = {
        row["experiment"]: {title: row[name] for name, title in TITLES.items() if name in row}
        for row in run_rows(predictions)
    }
    by_name = {prediction.experiment.name: prediction for prediction in predictions}
    for name, known in run_gaps(predictions).items():
        found[name] |= {gap.percentile: gap.error for gap in known}
        stalls = _stalls(by_name[name])
        found[name] |= {} if stalls is None else {STALLS: stalls}
    return found


def peers(predictions: Sequence[Prediction]) -> str:
    """Return the mean size of each peer's errors on the runs that it covers, and ours on the same."""
    return markdown(pl.DataFrame(beside_peers(predictions)), {"who": "who", "runs": "runs", **TITLES})


def better_peers(predictions: Sequence[Prediction]) -> list[str]:
    """Return the metrics in which a peer's mean error is less than ours on its runs, as ``peer: metrics``."""
    rows = beside_peers(predictions)
    found = []
    for theirs, ours in zip(rows[::2], rows[1::2], strict=True):
        names = [TITLES[name] for name in METRICS if theirs[name] is not None and theirs[name] < ours[name]]
        if names:
            found.append(f"{theirs['who']} ({theirs['runs']} runs): {', '.join(names)}")
    return found


def gaps(predictions: Sequence[Prediction]) -> str:
    """Return signed errors of percentiles of the gaps between tokens, and their mean size over the scored runs."""
    by_name = {prediction.experiment.name: prediction for prediction in predictions}
    rows = []
    for name, found in run_gaps(predictions).items():
        prediction = by_name[name]
        errors = {gap.percentile: signed(gap.error) for gap in found}
        title = name if prediction.experiment.is_scored else f"({name})"
        rows.append({"experiment": title} | errors | {STALLS: signed(_stalls(prediction))})
    mean = {name: f"{100 * value:.1f}" for name, value in mean_gaps(predictions).items()}
    rows.append({"experiment": "mean size, scored runs"} | mean)
    columns = {"experiment": "run"} | {name: name for name in mean} | {STALLS: STALLS}
    return markdown(pl.DataFrame(rows), columns)


def _stalls(prediction: Prediction) -> float | None:
    measured = prediction.experiment.data["measured"]["token_gap_s"].get(STALLS)
    return prediction.gap_quantiles[997] / measured - 1 if measured else None


def folds(fit: Mapping[str, Any]) -> str:
    """Return errors with each group of runs left out of the fit of the engine profile, and what that does to its values.

    Args:
        fit: What ``gpusim calibrate --engine PROFILE DIR --json`` prints.
    """
    rows = [{"who": "in sample", **_fitted(fit["in_sample"])}]
    for by, found in fit["left_out"].items():
        rows += [{"who": f"{by}: {name}", **_fitted(errors)} for name, errors in found["folds"].items()]
        rows.append({"who": f"{by}, mean of runs", **_fitted(found["mean_of_runs"])})
        rows.append({"who": f"{by}, median of folds", **_fitted(found["median_of_folds"])})
    table = markdown(pl.DataFrame(rows), {"who": "left out", **{name: TITLES[name] for name in FITTED_METRICS}})
    ranges = "; ".join(
        f"{name} {1e3 * fit['values_s'][name]:.2f} ({1e3 * low:.2f} to {1e3 * high:.2f}) ms"
        for name, (low, high) in fit["ranges_s"].items()
    )
    return f"{table}\nFitted on {len(fit['runs'])} runs, with the range over all fits: {ranges}.\n"


def _fitted(errors: Mapping[str, float]) -> dict[str, float]:
    return {name: errors[name] for name in FITTED_METRICS}


def signed(value: float | None) -> str:
    """Return a fraction in per cent, with its sign."""
    return "–" if value is None else f"{100 * value:+.1f}"
