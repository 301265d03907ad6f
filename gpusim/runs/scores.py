"""Errors of predicted runs beside those of peers, which are in the same files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any, Final

from gpusim.runs.gaps import Gap, gaps, mean_gap_errors
from gpusim.runs.layout import METRICS
from gpusim.runs.predictions import Prediction

OURS: Final = "gpusim"


def errors(predicted: Mapping[str, float], measured: Mapping[str, float]) -> dict[str, float]:
    """Return predicted / measured - 1 of each metric that both have."""
    return {name: predicted[name] / measured[name] - 1 for name in METRICS if name in predicted and measured.get(name)}


def run_rows(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Return a row for each predicted run: experiment, scored, mean decodes, runtime and signed errors (fractions)."""
    rows = []
    for prediction in predictions:
        if not prediction.metrics:
            continue
        experiment = prediction.experiment
        row = {
            "experiment": experiment.name,
            "scored": experiment.is_scored,
            "mean_decodes": prediction.mean_decodes,
            "runtime_s": prediction.runtime_s,
        }
        rows.append(row | errors(prediction.metrics, experiment.measured))
    return rows


def mean_errors(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Return the mean size of the error of each metric over the scored runs, and how many they are."""
    return _means(OURS, [errors(p.metrics, p.experiment.measured) for p in _scored(predictions)])


def beside_peers(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Return, for each peer, its mean errors over the scored runs that it predicts, and ours over the same runs."""
    scored = _scored(predictions)
    rows = []
    for peer in sorted({name for p in scored for name in p.experiment.peers}):
        covered = [p for p in scored if p.experiment.peers.get(peer)]
        theirs = [errors(p.experiment.peers[peer], p.experiment.measured) for p in covered]
        ours = [
            {name: value for name, value in errors(p.metrics, p.experiment.measured).items() if name in their}
            for p, their in zip(covered, theirs, strict=True)
        ]
        rows += [_means(peer, theirs), _means(f"{OURS} on its runs", ours)]
    return rows


def run_gaps(predictions: Sequence[Prediction], *, jitter: bool = False) -> dict[str, list[Gap]]:
    """Return the gaps between tokens, with or without jitter, of each run that has them measured, by its name."""
    found = {
        p.experiment.name: gaps(p.experiment, p.jittered_gap_quantiles if jitter else p.gap_quantiles)
        for p in predictions
    }
    return {name: mine for name, mine in found.items() if mine}


def mean_gaps(predictions: Sequence[Prediction], *, jitter: bool = False) -> dict[str, float]:
    """Return the mean size of the error of each percentile of gaps between tokens over the scored runs."""
    return mean_gap_errors(list(run_gaps(_scored(predictions), jitter=jitter).values()))


def reasons(predictions: Sequence[Prediction]) -> list[dict[str, str]]:
    """Return experiment and reason of those that could not be simulated."""
    return [{"experiment": p.experiment.name, "reason": p.reason} for p in predictions if p.reason]


def _scored(predictions: Sequence[Prediction]) -> list[Prediction]:
    return [p for p in predictions if p.metrics and p.experiment.is_scored and p.experiment.measured]


def _means(who: str, found: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"who": who, "runs": len(found)}
    for name in METRICS:
        sizes = [abs(run[name]) for run in found if name in run]
        row[name] = fmean(sizes) if sizes else None
        if who == OURS:
            row[f"{name}_median"] = median(sizes) if sizes else None
    return row
