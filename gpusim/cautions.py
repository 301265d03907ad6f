"""What a user should know of a plan before it runs, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator

from gpusim.plan import Plan
from gpusim.runtime.provenance import standing_in


def cautions(plan: Plan) -> list[str]:
    """Return the warnings that hold for every run of *plan*, each once."""
    return list(dict.fromkeys([*_long_contexts(plan), *_standing_in(plan)]))


def _long_contexts(plan: Plan) -> Iterator[str]:
    """Name the engines that take longer requests than their model was trained for."""
    for engine in plan.engines:
        if (engine.serving.max_model_len or 0) > engine.model.max_model_len:
            yield (
                f"{engine.name}: max_model_len = {engine.serving.max_model_len} is beyond the "
                f"{engine.model.max_model_len} tokens that {engine.model.name} was trained for; only its speed is simulated"
            )


def _standing_in(plan: Plan) -> Iterator[str]:
    """Name the devices that nobody measured; ideal kernels need no laws."""
    if plan.scenario.efficiency != "ideal":
        found = (standing_in(engine.device, engine.model, len(engine.gpus)) for engine in plan.engines)
        yield from filter(None, found)
