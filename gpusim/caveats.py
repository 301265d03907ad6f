"""What a user should know of a scenario that is good, and can before it is simulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path

from gpusim.placement import EnginePlan
from gpusim.plan import Plan
from gpusim.runtime.provenance import standing_in
from gpusim.spec.workload import WorkloadSpec
from gpusim.spelling import counted
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
        too_long, following, number = _rejected(workload, longest, plan.scenario.seed)
        if too_long:
            names = ", ".join(engine.name for engine in engines)
            yield (
                f"{names}: {too_long} of {number} requests will be rejected: prompt and output are longer than "
                f"max_model_len = {longest}" + (f"; and {counted(following, 'turn')} after them" if following else "")
            )


def _rejected(workload: WorkloadSpec, longest: int, seed: int) -> tuple[int, int, int]:
    """Return how many requests are rejected for having more than *longest* tokens, how many follow these, and how many there are."""
    too_long = following = number = 0
    is_rejected = False
    for block in request_blocks(workload, seed=seed, folder=Path()):
        number += len(block)
        followed = block.after or repeat(None, len(block))
        for prompt, output, after in zip(block.prompt_tokens, block.output_tokens, followed, strict=True):
            is_following = is_rejected and after is not None
            is_long = prompt + output > longest and not is_following
            is_rejected = is_following or is_long
            following += is_following
            too_long += is_long
    return too_long, following, number
