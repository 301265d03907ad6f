"""Changed scenarios: one factor of `what_if:` better, or without one of those that are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from gpusim.explain.groups import stream_names
from gpusim.spec.what_if import FACTORS, RATES
from gpusim.spec.workload import WorkloadSpec
from gpusim.workload.stream import merged_seed, stream_numbers

STATED: Final = "stated"

Scenario = Mapping[str, Any]
"""A resolved one, as plain data."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A scenario to simulate beside the stated one."""

    name: str
    """Of the factor, or of what is left out: ``background checkpoint``."""
    scenario: dict[str, Any]
    is_improvement: bool = False
    """Whether all requests are there, and one of the factors is better."""


def better(scenario: Scenario, factor: float) -> list[Variant]:
    """Return a variant for each factor, *factor* times as good: rates are multiplied by it, times divided."""
    return [_better(scenario, name, factor if name in RATES else 1 / factor) for name in FACTORS]


def _better(scenario: Scenario, name: str, factor: float) -> Variant:
    stated = scenario.get("what_if") or {}
    return Variant(name, {**scenario, "what_if": {**stated, name: stated.get(name, 1.0) * factor}}, is_improvement=True)


def without(scenario: Scenario) -> list[Variant]:
    """Return a variant without each background transfer, engine with requests of its own, and merged stream."""
    return [*_without_background(scenario), *_without_engine(scenario), *_without_stream(scenario)]


def _without_background(scenario: Scenario) -> Iterator[Variant]:
    entries = scenario.get("background") or []
    for number, entry in enumerate(entries):
        name = entry.get("name") or f"background{number}"
        yield Variant(f"background {name}", {**scenario, "background": _left(entries, number)})


def _without_engine(scenario: Scenario) -> Iterator[Variant]:
    engines = scenario.get("engines") or []
    for number, engine in enumerate(engines):
        if engine.get("workload") and len(engines) > 1:
            yield Variant(f"engine {engine['name']}", {**scenario, "engines": _left(engines, number)})


def _without_stream(scenario: Scenario) -> Iterator[Variant]:
    workload: dict[str, Any] = scenario.get("workload") or {}
    merged = workload.get("merge") or []
    names, counts = stream_names(workload), _counts(scenario)
    if sum(count > 0 for count in counts) < 2:
        return
    own = workload.get("seed")
    seed = scenario["seed"] if own is None else own
    # As they are called and drawn now, whatever their number then, and no more of them where one leaves room.
    pinned = [
        {"seed": merged_seed(seed, number), **part, "name": names[number].removeprefix("stream ")}
        | {"num_requests": counts[number]}
        for number, part in enumerate(merged)
    ]
    for number, name in enumerate(names):
        left = [part for other, part in enumerate(pinned) if other != number and part["num_requests"]]
        if counts[number]:
            changed = {**workload, "merge": deepcopy(left), "num_requests": None}
            yield Variant(name, {**scenario, "workload": changed})


def _counts(scenario: Scenario) -> list[int]:
    """Return how many requests each stream of the merged workload has within its limit; none without any streams."""
    workload = scenario.get("workload") or {}
    if not workload.get("merge"):
        return []
    numbers = stream_numbers(WorkloadSpec.model_validate(workload), seed=scenario["seed"], folder=Path())
    counts: list[int] = np.bincount(numbers[: workload.get("num_requests")], minlength=len(workload["merge"])).tolist()
    return counts


def unanswered(scenario: Scenario) -> list[str]:
    """Say what cannot be left out, one sentence each."""
    engines = scenario.get("engines") or []
    sharing = [engine["name"] for engine in engines if not engine.get("workload")]
    if len(engines) > 1 and sharing:
        return [
            f"{', '.join(sharing)}: share one workload, so none of them can be left out without more for the others"
        ]
    return []


def _left(entries: Sequence[Any], number: int) -> list[Any]:
    return deepcopy([entry for index, entry in enumerate(entries) if index != number])
