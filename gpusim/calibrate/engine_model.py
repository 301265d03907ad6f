"""Runs as linear functions of an engine's parameters, and the parameters that fit them best.

A little more time in each step makes tokens later in proportion, as long as no queue forms: so a simulation at a base profile
and one more for each parameter tell nearly all. The fit has the least sum of absolute relative errors, so that one odd run,
or one near its capacity, cannot pull the values far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpusim.core.arrays import FloatArray

FITTED_METRICS: Final = ("ttft_mean_s", "itl_mean_s", "e2e_mean_s")
"""What is fitted. Percentiles follow; a parameter of the engine does not shape them."""
_TINY: Final = 1e-9


@dataclass(frozen=True, slots=True)
class LinearRuns:
    """Metrics of runs around a base profile; rows are runs, columns `FITTED_METRICS`, depth the parameters."""

    measured: FloatArray
    """Seconds, of shape (runs, metrics); nan where not measured."""
    base: FloatArray
    """Simulated with the base profile, likewise."""
    slopes: FloatArray
    """Seconds of a metric for a second of a parameter, of shape (runs, metrics, parameters)."""
    at: FloatArray
    """Parameters of the base profile, in seconds."""

    def errors(self, values: FloatArray) -> FloatArray:
        """Return predicted / measured - 1 at *values* (seconds), of shape (runs, metrics)."""
        return (self.base + self.slopes @ (values - self.at)) / self.measured - 1

    def fit(self, rows: NDArray[np.bool_] | None = None) -> FloatArray:
        """Return the parameters, none below 0, with the least sum of absolute relative errors of the runs in *rows*.

        One that no run feels stays as it is in the base profile.
        """
        kept = np.ones(len(self.base), dtype=bool) if rows is None else rows
        matrix = (self.slopes[kept] / self.measured[kept, :, None]).reshape(-1, len(self.at))
        errors = self.errors(self.at)[kept].reshape(-1)
        known = np.isfinite(errors)
        felt = np.abs(matrix[known]).sum(axis=0, initial=0.0) > _TINY
        values = self.at.copy()
        if felt.any():
            values[felt] = _least_deviations(matrix[known][:, felt], errors[known], self.at[felt])
        return values


def _least_deviations(matrix: FloatArray, errors: FloatArray, start: FloatArray) -> FloatArray:
    """Return x >= 0 with the least sum of |errors + matrix (x - start)|; a linear program with a slack for each row."""
    from scipy.optimize import linprog  # noqa: PLC0415 - slow to import

    scale = 1 / np.abs(matrix).max(axis=0)
    scaled = matrix * scale
    slack = -np.eye(len(errors))
    target = matrix @ start - errors
    found = linprog(
        np.concatenate([np.zeros(len(scale)), np.ones(len(errors))]),
        A_ub=np.block([[scaled, slack], [-scaled, slack]]),
        b_ub=np.concatenate([target, -target]),
        bounds=(0, None),
    )
    values: FloatArray = found.x[: len(scale)] * scale
    return values


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Errors of runs that were not in the fit: each group of runs left out in turn, by the linear model."""

    by: str
    """What makes a group: family, gpu."""
    folds: Mapping[str, Mapping[str, float]]
    """Mean size of the error by group and metric."""
    runs: Mapping[str, float]
    """Mean over all runs, by metric."""
    values: FloatArray
    """Parameters of each fold in seconds, of shape (groups, parameters)."""

    def summary(self) -> dict[str, Any]:
        """Return errors (fractions) by fold, and their mean over runs and median over folds."""
        medians = {name: float(np.median([fold[name] for fold in self.folds.values()])) for name in self.runs}
        return {"folds": dict(self.folds), "mean_of_runs": dict(self.runs), "median_of_folds": medians}


def leave_out(runs: LinearRuns, groups: Sequence[str], by: str) -> LeftOut | None:
    """Return errors with each group left out in turn; None if there is only one."""
    named = np.array(groups)
    titles = sorted(set(groups))
    if len(titles) == 1:
        return None
    sizes, values = np.empty(runs.base.shape), []
    for title in titles:
        inside = named == title
        values.append(runs.fit(~inside))
        sizes[inside] = np.abs(runs.errors(values[-1]))[inside]
    folds = {title: _means(sizes[named == title]) for title in titles}
    return LeftOut(by, folds, _means(sizes), np.array(values))


def _means(sizes: FloatArray) -> dict[str, float]:
    """Return the mean over the runs in which a metric was measured."""
    known = np.isfinite(sizes)
    totals = np.where(known, sizes, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return dict(zip(FITTED_METRICS, totals.tolist(), strict=True))
