"""Fit the few parameters of an engine profile to a folder of measured runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from gpusim.calibrate.engine_model import FITTED_METRICS, LeftOut, LinearRuns, leave_out
from gpusim.calibrate.writing import short
from gpusim.core.arrays import FloatArray
from gpusim.errors import SpecError
from gpusim.runs.layout import Experiment
from gpusim.runs.models import model_of
from gpusim.runs.predictions import Prediction, predict_all
from gpusim.runs.scenarios import is_inside
from gpusim.runs.scores import mean_errors
from gpusim.spec.device import DeviceSpec
from gpusim.spec.engine_profile import EngineProfile
from gpusim.spec.yaml_files import dump_yaml
from gpusim.spelling import counted
from gpusim.units import ms, us

API: Final = "request + token"
"""Open loops determine only the sum, and it moves TTFT and E2E by itself: it needs no simulation."""
STEPS: Final = {"step": 0.2 * ms, "sequence": 10 * us, "candidates": 0.2 * ms}
"""How far the simulation that tells a parameter's effect is from the base profile."""
PARAMETERS: Final = (*STEPS, API)
"""Overlapped host time is not among them, but lent by the base profile: the longer of two times is not linear in it."""
_MOVED_BY_API: Final = np.array([name != "itl_mean_s" for name in FITTED_METRICS], dtype=np.float64)


@dataclass(slots=True)
class Simulated:
    """Runs simulated with engine profiles; none twice for what it does not feel."""

    devices: Mapping[str, DeviceSpec]
    processes: int
    on_done: Callable[[int], None]
    """Called with the number of simulations that are done."""
    count: int = 0
    _known: dict[tuple[str, EngineProfile], Prediction] = field(default_factory=dict)

    def runs(self, experiments: Sequence[Experiment], profile: EngineProfile) -> list[Prediction]:
        """Return all runs with *profile*, simulating those that are not known yet."""
        keys = [(experiment.name, felt(profile, experiment)) for experiment in experiments]
        missing = [each for each, key in zip(experiments, keys, strict=True) if key not in self._known]
        before = self.count
        done = predict_all(
            missing,
            self.devices,
            engine=profile,
            processes=min(self.processes, max(1, len(missing))),
            on_done=lambda number: self.on_done(before + number),
        )
        self.count += len(done)
        self._known |= {(each.experiment.name, felt(profile, each.experiment)): each for each in done}
        return [self._known[key] for key in keys]


def felt(profile: EngineProfile, experiment: Experiment) -> EngineProfile:
    """Return *profile* without what a run does not feel: the sorting of logits, where its model's sampling needs none."""
    try:
        sorts = not is_inside(experiment) and model_of(experiment.model).generation.logit_passes > 0
    except SpecError:
        sorts = True
    return profile if sorts else profile.model_copy(update={"candidates": 0.0})


@dataclass(frozen=True, slots=True)
class EngineFit:
    """A fitted profile, and how well it fits."""

    profile: EngineProfile
    predictions: tuple[Prediction, ...]
    """Of the runs read, simulated with the fitted profile."""
    left_out: tuple[LeftOut, ...]
    without: Mapping[str, str]
    """Runs that could not be used, and why."""

    def values(self) -> dict[str, float]:
        """Return the fitted parameters in seconds."""
        return dict(zip(PARAMETERS, parameters_of(self.profile).tolist(), strict=True))

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Return the least and the largest value of each parameter over the fit and all fits with a group left out."""
        found = np.vstack([parameters_of(self.profile), *(each.values for each in self.left_out)])
        return {name: (float(each.min()), float(each.max())) for name, each in zip(PARAMETERS, found.T, strict=True)}

    def summary(self) -> dict[str, Any]:
        """Return values and ranges (seconds), the runs read, and errors (fractions)."""
        return {
            "engine": self.profile.name,
            "values_s": self.values(),
            "ranges_s": self.ranges(),
            "runs": [prediction.experiment.name for prediction in self.predictions],
            "without": dict(self.without),
            "in_sample": mean_errors(self.predictions),
            "left_out": {each.by: each.summary() for each in self.left_out},
        }


def fit_engine(
    base: EngineProfile,
    experiments: Sequence[Experiment],
    simulated: Simulated,
    source: str,
    *,
    per_sequence: bool = False,
) -> EngineFit:
    """Fit *base*'s parameters to the scored runs of *experiments*.

    Args:
        base: To begin with.
        experiments: Measured runs.
        simulated: Simulates them.
        source: Where they come from.
        per_sequence: Fit `sequence` too; it stays as it is otherwise.

    Raises:
        SpecError: If no run can be used.
    """
    scored = [each for each in experiments if each.is_scored and set(FITTED_METRICS) & set(each.measured)]
    known = simulated.runs(scored, base)
    without = {each.experiment.name: each.reason for each in known if each.reason}
    used = [each.experiment for each in known if each.metrics]
    if not used:
        raise SpecError("no scored run with measured metrics can be simulated; gpusim validate serving says why")
    runs = _linear(base, used, simulated, {name: STEPS[name] for name in STEPS if per_sequence or name != "sequence"})
    families = [str(each.model.get("name", "")).rpartition("/")[2] for each in used]
    left_out = [
        leave_out(runs, families, "family"),
        leave_out(runs, [str(each.system.get("gpu", "")) for each in used], "gpu"),
    ]
    found = with_parameters(base, runs.fit()).model_copy(
        update={"source": f"Fitted on {counted(len(used), 'run')} of {source} by gpusim calibrate --engine."}
    )
    return EngineFit(
        found, tuple(simulated.runs(used, found)), tuple(each for each in left_out if each is not None), without
    )


def _linear(
    base: EngineProfile, used: Sequence[Experiment], simulated: Simulated, steps: Mapping[str, float]
) -> LinearRuns:
    """Return the effect of API time and of the parameters in *steps* on the runs *used*; none of the others."""
    at_base = _metrics(simulated.runs(used, base))
    slopes = np.zeros((*at_base.shape, len(PARAMETERS)))
    for name, step in steps.items():
        moved = base.model_copy(update={name: getattr(base, name) + step})
        slopes[..., PARAMETERS.index(name)] = (_metrics(simulated.runs(used, moved)) - at_base) / step
    served = np.array([not is_inside(each) for each in used], dtype=np.float64)
    slopes[..., PARAMETERS.index(API)] = served[:, None] * _MOVED_BY_API
    measured = np.array([[each.measured.get(name, np.nan) for name in FITTED_METRICS] for each in used])
    return LinearRuns(measured, at_base, slopes, parameters_of(base))


def _metrics(predictions: Sequence[Prediction]) -> FloatArray:
    return np.array([[each.metrics.get(name, np.nan) for name in FITTED_METRICS] for each in predictions])


def parameters_of(profile: EngineProfile) -> FloatArray:
    """Return the parameters of *profile* in seconds, in the order of `PARAMETERS`."""
    return np.array([*(getattr(profile, name) for name in STEPS), profile.request + profile.token])


def with_parameters(base: EngineProfile, values: FloatArray) -> EngineProfile:
    """Return *base* with *values*; of the sum, `token` stays as it is where it can."""
    *host, api = values.tolist()
    token = min(base.token, api)
    api_times = {"request": api - token, "token": token, "jitter": min(base.jitter, token)}
    return base.model_copy(update=dict(zip(STEPS, host, strict=True)) | api_times)


def profile_text(profile: EngineProfile) -> str:
    """Return *profile* as a file: times with four digits, graphs in a line."""
    stated = {"schema": profile.schema_number} | profile.model_dump(mode="json", by_alias=True, exclude={"graph_sizes"})
    return dump_yaml(short(stated)) + f"graph_sizes: [{', '.join(map(str, profile.graph_sizes))}]\n"
