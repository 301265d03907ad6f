"""What a user should know of a scenario that is good, and can before it is simulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gpusim.placement import EnginePlan
from gpusim.plan import Plan
from gpusim.runtime.provenance import standing_in
from gpusim.spec.workload import WorkloadSpec
from gpusim.workload.stream import request_blocks


def long_contexts(engines: Sequence[EnginePlan]) -> Iterator[str]:
    """Name the engines that take longer requests than their model was trained for."""
    for engine in engines:
        longest = engine.serving.max_model_len or 0
        if longest > engine.model.max_model_len:
            yield (
                f"{engine.name}: max_model_len = {longest} is beyond the {engine.model.max_model_len} tokens that "
                f"{engine.model.name} was trained for; only its speed is simulated"
            )


def unmeasured(plan: Plan) -> Iterator[str]:
    """Name each device that nobody measured, or not all that its engines run; ideal kernels need no laws."""
    if plan.scenario.efficiency != "ideal":
        found = (standing_in(engine.device, engine.model, len(engine.gpus)) for engine in plan.engines)
        yield from dict.fromkeys(filter(None, found))


def long_requests(plan: Plan) -> Iterator[str]:
    """Count the requests of each workload that are longer than every engine takes that could serve them."""
    own = [(engine.workload, [engine]) for engine in plan.engines if engine.workload is not None]
    sharing = [engine for engine in plan.engines if engine.workload is None]
    shared = [(plan.workload, sharing)] if plan.workload is not None and sharing else []
    for workload, engines in own + shared:
        longest = max(engine.serving.max_model_len or engine.model.max_model_len for engine in engines)
        too_long, number = _longer(workload, longest, plan.scenario.seed)
        if too_long:
            names = ", ".join(engine.name for engine in engines)
            yield (
                f"{names}: {too_long} of {number} requests will be rejected: prompt and output are longer than "
                f"max_model_len = {longest}"
            )


def _longer(workload: WorkloadSpec, longest: int, seed: int) -> tuple[int, int]:
    """Return how many requests have more than *longest* tokens, and how many there are."""
    too_long = number = 0
    for block in request_blocks(workload, seed=seed, folder=Path()):
        number += len(block)
        lengths = zip(block.prompt_tokens, block.output_tokens, strict=True)
        too_long += sum(prompt + output > longest for prompt, output in lengths)
    return too_long, number
