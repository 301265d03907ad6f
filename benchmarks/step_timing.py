"""One decode step of a measured run, timed kernel by kernel by the simulator's own lowering and timer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import polars as pl
from step_formula import formula_s

from gpusim.core.clock import TICKS_PER_S
from gpusim.model.collectives import AllReduce
from gpusim.model.step import BatchShape
from gpusim.model.work import Attention, Elementwise, ExpertPass, Gemm, GroupedGemm, HostWork, Kernel, Sort
from gpusim.plan import plan_scenario
from gpusim.runs.layout import Experiment
from gpusim.runs.metrics import finished, run_metrics
from gpusim.runs.scenarios import scenario_of
from gpusim.runtime.collective import TimedCollective
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.runtime.program import TimedOperation, TimedProgram
from gpusim.simulation import Simulation

PARTS: Final[dict[type[Kernel], str]] = {
    Gemm: "products",
    GroupedGemm: "experts",
    ExpertPass: "experts",
    Attention: "attention",
    Sort: "sort of logits",
    HostWork: "host",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run, in seconds."""

    title: str
    batch: int
    context: int
    """Tokens of a sequence, in the mean."""
    ours: Mapping[str, float]
    formula: Mapping[str, float]
    simulated: float
    """Time per output token, in the mean of the run's requests."""
    measured: float
    num_kernels: int
    """In a step, collectives included."""
    num_collectives: int

    @property
    def total(self) -> float:
        """Of our parts."""
        return sum(self.ours.values())

    @property
    def by_formula(self) -> float:
        """Of the formula's parts."""
        return sum(self.formula.values())

    @property
    def beyond(self) -> float:
        """What ours have beyond the formula's parts, in place of its constant."""
        return self.total - self.by_formula + self.formula["constant"]

    @property
    def remainder(self) -> float:
        """Of what was measured, beside what was simulated."""
        return self.measured - self.simulated


def step_of(experiment: Experiment, title: str) -> Step:
    """Simulate a run, and take a step with its mean batch and context apart."""
    with TemporaryDirectory(prefix="gpusim-") as scratch:
        simulation = Simulation(plan_scenario(scenario_of(experiment, Path(scratch), num_blocks=False)))
        result = simulation.run()
    requests = finished(result)
    batch, context = mean_batch(result.steps), mean_context(requests)
    timed, figures = timed_step(simulation, batch, context, longest(requests))
    ours = parts_s(timed)
    formula = formula_s([(count, kernel) for count, kernels in timed.program.parts for kernel in kernels], figures)
    return Step(
        title=title,
        batch=batch,
        context=context,
        ours=ours,
        formula=formula | {name: value for name, value in ours.items() if name.startswith("all-reduces")},
        simulated=run_metrics(requests)["itl_mean_s"],
        measured=experiment.measured["itl_mean_s"],
        num_kernels=timed.program.num_kernels,
        num_collectives=timed.program.num_collectives,
    )


def timed_step(simulation: Simulation, batch: int, context: int, longest: int = 0) -> tuple[TimedProgram, GpuFigures]:
    """Return a decode step of the engine of *simulation* with its times, and the figures of its GPU.

    Args:
        simulation: Of one engine.
        batch: Sequences.
        context: Tokens of each, in the mean.
        longest: Tokens of the longest; 0: not known.
    """
    engine = simulation.engines["engine"]
    shape = BatchShape(batch, batch * context, num_sampled=batch, longest_decode=longest)
    timer = engine.executor.timer
    return timer.time(engine.lowering.lower(shape), None), timer.figures


def mean_batch(steps: pl.DataFrame) -> int:
    """Return how many sequences decode in the step of a token, in the mean of tokens."""
    decodes = steps["num_decodes"].to_numpy().astype(np.float64)
    return round((decodes**2).sum() / decodes.sum())


def mean_context(requests: pl.DataFrame) -> int:
    """Return how many tokens of context a token of the output has, in the mean of tokens."""
    prompt, output = (requests[name].to_numpy().astype(np.float64) for name in ("prompt_tokens", "output_tokens"))
    return round((output * (prompt + output / 2)).sum() / output.sum())


def longest(requests: pl.DataFrame) -> int:
    """Return the tokens of the longest request."""
    return int((requests["prompt_tokens"] + requests["output_tokens"]).to_numpy().max())


def parts_s(timed: TimedProgram) -> dict[str, float]:
    """Return seconds of a step by part; they sum to the step."""
    found: dict[str, float] = defaultdict(float)
    for (count, kernels), (_, operations) in zip(timed.program.parts, timed.parts, strict=True):
        for kernel, operation in zip(kernels, operations, strict=True):
            for name, value in _split(kernel, operation).items():
                found[name] += count * value
    return dict(found)


def _split(kernel: Kernel, operation: TimedOperation) -> dict[str, float]:
    """Return seconds of one call by part."""
    total = operation.ticks[0] / TICKS_PER_S
    if isinstance(operation, TimedCollective):
        name = "all-reduces" if isinstance(kernel, AllReduce) else "all-gather of logits"
        return {f"{name}, latency": operation.fixed_s, f"{name}, wire": total - operation.fixed_s}
    match kernel:
        case Elementwise(kind="sample") | Elementwise(name="penalties"):
            return {"sampling": total}
        case Elementwise():
            fixed = float(operation.terms.fixed_s[0])
            return {"element-wise, launches": fixed, "element-wise, bytes": total - fixed}
        case _:
            return {PARTS[type(kernel)]: total}
