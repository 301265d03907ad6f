"""Sweeps: one scenario at many points, one after the other."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpusim.errors import GpusimError, SpecError
from gpusim.plan import Plan, open_scenario, plan_document
from gpusim.results.result import Result
from gpusim.results.store import check_directory
from gpusim.simulation import Simulation
from gpusim.spec.document import Document
from gpusim.spec.expand import set_key
from gpusim.spec.scenario import PublishedSpec, Scenario
from gpusim.spec.sweep import Grid, Point, folder_names, is_grid, points, swept_keys, unmatched


@dataclass(frozen=True, slots=True)
class SweepRow:
    """A point and what came of it."""

    point: Point
    """Its keys and values; `point.labels` is what tables print."""
    plan: Plan
    """The scenario with every name resolved, and where its engines lie."""
    result: Result
    """The finished run."""
    folder: Path | None = None
    """Where it was to be saved."""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """All rows of a sweep, in the order of its points."""

    keys: tuple[str, ...]
    """What is swept, by dotted path."""
    rows: tuple[SweepRow, ...]
    """What was simulated; iterating over the sweep yields these."""
    failures: tuple[tuple[Point, str], ...] = ()
    """Points that could not be simulated to their end, or not be saved, and why; the others are not lost."""
    complete: bool = True
    """Whether every point had its turn: the user may interrupt."""
    relative_to: dict[str, Any] = field(default_factory=dict)
    """As the scenario's key of this name."""
    published: tuple[PublishedSpec, ...] = ()
    """As the scenario's key of this name."""

    def __iter__(self) -> Iterator[SweepRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def sweep(
    scenario: Scenario | str | Path,
    grid: Grid | None = None,
    *,
    out: str | Path | None = None,
    on_point: Callable[[int, int], None] | None = None,
) -> SweepResult:
    """Run a scenario at every point of *grid*, in sequence.

    Args:
        scenario: From `gpusim.load`, or the path or name of a file.
        grid: Keys by dotted path, crossed, or a list of points; default: what the scenario's ``sweep:`` says.
        out: Gets a directory for the run of each point, named by what the point sets.
        on_point: Called with the number of points done and of all of them, before each point.

    Raises:
        GpusimError: If any point is wrong, or its directory holds something else, before the first one runs.
    """
    return sweep_document(_document(scenario), grid, out=None if out is None else Path(out), on_point=on_point)


def _document(scenario: Scenario | str | Path) -> Document:
    if isinstance(scenario, Scenario):
        data = scenario.model_dump(mode="json", by_alias=True, exclude_none=True)
        return Document(scenario.name or "scenario", data)
    return open_scenario(scenario)


def sweep_document(
    document: Document,
    grid: Grid | None = None,
    *,
    out: Path | None = None,
    on_point: Callable[[int, int], None] | None = None,
) -> SweepResult:
    """Run the scenario in *document* at every point; see `sweep`."""
    chosen = _points_of(document, grid)
    plans = _plans(document, chosen)
    if grid is None:
        _check_comparisons(document, chosen)
    published = tuple(PublishedSpec.model_validate(entry) for entry in document.data.get("published") or [])
    relative_to = _relative_to(document, chosen)
    folders = [None if out is None else out / name for name in folder_names(chosen)]
    for path in filter(None, folders):
        check_directory(path)
    rows: list[SweepRow] = []
    failures: list[tuple[Point, str]] = []
    complete = True
    try:
        for number, (point, plan, folder) in enumerate(zip(chosen, plans, folders, strict=True)):
            if on_point is not None:
                on_point(number, len(chosen))
            try:
                rows.append(_run_point(point, plan, folder))
                _save(rows[-1])
            except GpusimError as error:
                failures.append((point, str(error)))
    except KeyboardInterrupt:
        complete = False
    return SweepResult(swept_keys(chosen), tuple(rows), tuple(failures), complete, relative_to, published)


def _run_point(point: Point, plan: Plan, folder: Path | None) -> SweepRow:
    result = Simulation(plan).run()
    if not result.record.complete:
        raise KeyboardInterrupt
    return SweepRow(point, plan, result, folder)


def _save(row: SweepRow) -> None:
    if row.folder is not None:
        row.result.save(row.folder)


def check_points(document: Document) -> list[Plan]:
    """Check the scenario in *document* at every point of its sweep; return the plans of all.

    Raises:
        SpecError: With what is wrong at all its points.
    """
    chosen = _points_of(document, None)
    plans = _plans(document, chosen)
    _check_comparisons(document, chosen)
    return plans


def _points_of(document: Document, grid: Grid | None) -> list[Point]:
    """Return the points of *grid*, or of the scenario's own sweep."""
    stated = document.data.get("sweep") if grid is None else grid
    if not stated:
        raise SpecError(f"{document.label}: nothing to sweep; add sweep: {{key: [values]}} or use --over key=v1,v2")
    if not is_grid(stated):
        # A scenario with such a sweep is no scenario; that error has the line.
        plan_document(copy.deepcopy(document))
        raise SpecError("a sweep is a mapping of keys to lists of values, or a list of mappings")
    chosen = points(stated)
    if not chosen:
        raise SpecError(f"{document.label}: nothing to sweep: a key has no values")
    return chosen


def _plans(document: Document, chosen: Sequence[Point]) -> list[Plan]:
    """Return the plans of all points.

    Raises:
        SpecError: With every problem and the first of the points that have it.
    """
    plans: list[Plan] = []
    wrong: dict[str, list[Point]] = {}
    for point in chosen:
        changed = copy.deepcopy(document)
        try:
            for path, value in point.overrides.items():
                set_key(changed, path, value, "the sweep")
            plans.append(plan_document(changed))
        except GpusimError as error:
            wrong.setdefault(str(error), []).append(point)
    if wrong:
        raise SpecError("\n".join(_at(same, message) for message, same in wrong.items()))
    return plans


def _at(same: Sequence[Point], message: str) -> str:
    more = f" (and {len(same) - 1} more)" if len(same) > 1 else ""
    return f"at the point {same[0]}{more} of the sweep:\n{message}"


def _check_comparisons(document: Document, chosen: Sequence[Point]) -> None:
    """Check that the points that ``relative_to`` and ``published`` name are swept."""
    stated = document.data
    problems = unmatched(stated.get("relative_to") or {}, chosen, "relative_to")
    for index, entry in enumerate(stated.get("published") or []):
        problems += unmatched(entry["when"], chosen, "published", index, "when")
    if problems:
        raise document.error(problems)


def _relative_to(document: Document, chosen: Sequence[Point]) -> dict[str, Any]:
    """Return the labels of the points to compare with; none where another grid than the file's has no such points."""
    wanted = document.data.get("relative_to") or {}
    return {} if unmatched(wanted, chosen) else dict(wanted)
