"""What a user should know of a scenario that is good, and can before it is simulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gpusim.placement import EnginePlan
from gpusim.plan import Plan
from gpusim.runtime.provenance import standing_in


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
