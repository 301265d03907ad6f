"""Every experiment simulated: its metrics, or a named reason why there are none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from gpusim.core.processes import worker_pool
from gpusim.errors import CapacityError, GpusimError, SpecError
from gpusim.files import write_text
from gpusim.results.result import Result
from gpusim.runs.distributions import quantiles
from gpusim.runs.gaps import gap_quantiles, jittered_gap_quantiles
from gpusim.runs.layout import METRICS, Experiment
from gpusim.runs.metrics import finished, run_metrics
from gpusim.runs.scenarios import scenario_of, stated_jitter
from gpusim.simulation import simulate
from gpusim.spec.device import DeviceSpec
from gpusim.spec.engine_profile import EngineProfile
from gpusim.spec.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Prediction:
    """What became of one experiment."""

    experiment: Experiment
    metrics: dict[str, float] = field(default_factory=dict)
    """By the names in `METRICS`; empty where there is a reason."""
    reason: str = ""
    """Why it could not be simulated."""
    mean_decodes: float = 0.0
    """Sequences that decode in a step, in the mean of steps."""
    runtime_s: float = 0.0
    """What the simulation took, on a clock on the wall."""
    quantiles: dict[str, list[float]] = field(default_factory=dict)
    """Over finished requests; see `distributions.quantiles`."""
    gap_quantiles: list[float] = field(default_factory=list)
    """Over all gaps between tokens; see `gaps.gap_quantiles`."""
    jittered_gap_quantiles: list[float] = field(default_factory=list)
    """Likewise with the jitter that the engine profile states; empty if it states none."""


def predict(
    experiment: Experiment,
    devices: Mapping[str, DeviceSpec] | None = None,
    engine: str | EngineProfile = "vllm",
    *,
    left_out: bool = False,
) -> Prediction:
    """Simulate one experiment; see `scenario_of`."""
    start = perf_counter()
    try:
        with TemporaryDirectory(prefix="gpusim-") as scratch:
            result = _simulated(
                partial(scenario_of, experiment, Path(scratch), devices, engine=engine, left_out=left_out)
            )
        requests = finished(result)
        metrics = run_metrics(requests)
    except GpusimError as error:
        return Prediction(experiment, reason=str(error))
    decodes = next(iter(result.summary()["engines"].values()))["mean_decodes"] or 0.0
    ordered: dict[str, float] = {name: metrics[name] for name in METRICS if name in metrics}
    return Prediction(
        experiment,
        ordered,
        mean_decodes=decodes,
        runtime_s=perf_counter() - start,
        quantiles=quantiles(requests),
        gap_quantiles=gap_quantiles(result),
        jittered_gap_quantiles=jittered_gap_quantiles(result, stated_jitter(experiment, engine)),
    )


def predict_all(
    experiments: Sequence[Experiment],
    devices: Mapping[str, DeviceSpec] | None = None,
    *,
    engine: str | EngineProfile = "vllm",
    left_out: bool = False,
    processes: int = 1,
    on_done: Callable[[int], None] | None = None,
) -> list[Prediction]:
    """Simulate all experiments, in their order; several at once in processes of their own.

    Args:
        experiments: What to simulate.
        devices: See `scenario_of`.
        engine: The engine profile, or its name or path.
        left_out: Take every GPU for unmeasured.
        processes: How many at once.
        on_done: Called with the number of those that are done.
    """
    one = partial(predict, devices=devices, engine=engine, left_out=left_out)
    done = on_done or (lambda _: None)
    if processes == 1:
        return [_told(one(experiment), number, done) for number, experiment in enumerate(experiments, 1)]
    with worker_pool(processes) as pool:
        longest_first = sorted(range(len(experiments)), key=lambda index: -_size(experiments[index]))
        futures = {index: pool.submit(one, experiments[index]) for index in longest_first}
        for number, _ in enumerate(as_completed(futures.values()), 1):
            done(number)
        return [futures[index].result() for index in range(len(experiments))]


def _told(prediction: Prediction, number: int, done: Callable[[int], None]) -> Prediction:
    done(number)
    return prediction


def _size(experiment: Experiment) -> float:
    """Guess how long a run takes to simulate: its output tokens, as far as they are stated."""
    workload = experiment.data.get("workload")
    if not isinstance(workload, Mapping):
        return 0.0
    output = workload.get("output_tokens_requested") or workload.get("output_tokens_mean") or 1
    return float(workload.get("num_requests") or 1) * float(output)


def cores() -> int:
    """Return how many processes this one may have run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _simulated(scenario: Callable[..., Scenario]) -> Result:
    """Simulate with the KV blocks that were recorded; with what memory holds, where it does not hold those."""
    try:
        return simulate(scenario())
    except (CapacityError, SpecError) as error:
        if "num_gpu_blocks_override" not in str(error):
            raise
        return simulate(scenario(num_blocks=False))


def write_predictions(predictions: Sequence[Prediction], path: Path) -> None:
    """Write ``{experiment_id: {metric: seconds}}`` of all that have a prediction; atomically.

    Raises:
        SpecError: If *path* cannot be written.
    """
    found = {prediction.experiment.name: prediction.metrics for prediction in predictions if prediction.metrics}
    write_text(path, json.dumps(found, indent=1) + "\n")
