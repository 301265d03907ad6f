"""Sweeps: one scenario at many points, one after the other."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from gpusim.errors import GpusimError, SpecError
from gpusim.plan import Plan, open_scenario, plan_document
from gpusim.results.result import Result
from gpusim.simulation import Simulation
from gpusim.spec.document import Document
from gpusim.spec.scenario import PublishedSpec, Scenario

LABEL = "label"
"""Names a value that sets several keys at once."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a sweep."""

    labels: dict[str, Any]
    """Value of each swept key, as shown."""
    overrides: dict[str, Any]
    """Keys of the scenario it sets."""


@dataclass(frozen=True, slots=True)
class SweepRow:
    """A point and what came of it."""

    point: Point
    plan: Plan
    result: Result


@dataclass(frozen=True, slots=True)
class SweepResult:
    """All rows of a sweep, in the order of its points."""

    keys: tuple[str, ...]
    rows: tuple[SweepRow, ...]
    relative_to: dict[str, Any] = field(default_factory=dict)
    published: tuple[PublishedSpec, ...] = ()

    def __iter__(self) -> Iterator[SweepRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def points(stated: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]) -> list[Point]:
    """Return the points that a ``sweep:`` states.

    A mapping crosses the values of its keys; a list holds a point an entry. A value may be a mapping of dotted keys
    that are set together; its ``label`` names it.
    """
    if not isinstance(stated, Mapping):
        return [Point(dict(entry), dict(entry)) for entry in stated]
    choices = [[_choice(key, value) for value in values] for key, values in stated.items()]
    return [_joined(chosen) for chosen in product(*choices)]


def _choice(key: str, value: Any) -> Point:
    if isinstance(value, Mapping) and LABEL in value:
        return Point({key: value[LABEL]}, {name: each for name, each in value.items() if name != LABEL})
    return Point({key: value}, {key: value})


def _joined(chosen: Sequence[Point]) -> Point:
    labels: dict[str, Any] = {}
    overrides: dict[str, Any] = {}
    for point in chosen:
        labels |= point.labels
        overrides |= point.overrides
    return Point(labels, overrides)


def sweep(
    scenario: Scenario | str | Path,
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | None = None,
    *,
    on_point: Callable[[int, int], None] | None = None,
) -> SweepResult:
    """Run a scenario at every point of *grid*, in sequence.

    Args:
        scenario: From `gpusim.load`, or the path or name of a file.
        grid: Keys by dotted path, crossed, or a list of points; default: what the scenario's ``sweep:`` says.
        on_point: Called with the number of points done and of all of them, before each point.

    Raises:
        SpecError: If any point is wrong, before the first one runs.
        SimulationError: If none of the requests of a point can run.
    """
    return sweep_document(_document(scenario), grid, on_point=on_point)


def _document(scenario: Scenario | str | Path) -> Document:
    if isinstance(scenario, Scenario):
        data = scenario.model_dump(mode="json", by_alias=True, exclude_none=True)
        return Document(scenario.name or "scenario", data)
    return open_scenario(scenario)


def sweep_document(
    document: Document,
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | None = None,
    *,
    on_point: Callable[[int, int], None] | None = None,
) -> SweepResult:
    """Run the scenario in *document* at every point; see `sweep`."""
    chosen = _points_of(document, grid)
    plans = [_plan_at(document, point) for point in chosen]
    rows = []
    for number, (point, plan) in enumerate(zip(chosen, plans, strict=True)):
        if on_point is not None:
            on_point(number, len(chosen))
        rows.append(SweepRow(point, plan, Simulation(plan).run()))
    base = document.data
    published = tuple(PublishedSpec.model_validate(entry) for entry in base.get("published", []))
    keys = tuple(dict.fromkeys(key for point in chosen for key in point.labels))
    return SweepResult(keys, tuple(rows), dict(base.get("relative_to", {})), published)


def check_points(document: Document) -> int:
    """Check the scenario in *document* at every point of its sweep; return how many there are.

    Raises:
        SpecError: With what is wrong at the first wrong point.
    """
    chosen = _points_of(document, None)
    for point in chosen:
        _plan_at(document, point)
    return len(chosen)


def _points_of(
    document: Document, grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | None
) -> list[Point]:
    """Return the points of *grid*, or of the scenario's own sweep, whose form is checked with the scenario."""
    plan_document(copy.deepcopy(document))
    stated = grid if grid is not None else document.data.get("sweep")
    if not stated:
        raise SpecError(f"{document.label}: nothing to sweep; add sweep: {{key: [values]}} or use --over key=v1,v2")
    return points(stated)


def _plan_at(document: Document, point: Point) -> Plan:
    changed = copy.deepcopy(document)
    try:
        for path, value in point.overrides.items():
            changed.override(path, value)
        return plan_document(changed)
    except GpusimError as error:
        at = ", ".join(f"{key} = {value}" for key, value in point.labels.items())
        raise SpecError(f"at the point {at} of the sweep:\n{error}") from None
