"""What a ``sweep:`` states: the points at which a scenario is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from gpusim.files import distinct_names, plain_name
from gpusim.spec.problems import Problem

LABEL = "label"
"""Names a value that sets several keys at once, or a point of a list."""

Grid = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]
"""Keys by dotted path with their values, to be crossed, or a list of points."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a sweep."""

    labels: dict[str, Any]
    """Value of each swept key, as shown."""
    overrides: dict[str, Any]
    """Keys of the scenario it sets."""

    def __str__(self) -> str:
        return ", ".join(f"{key} = {value}" for key, value in self.labels.items())


def points(stated: Grid) -> list[Point]:
    """Return the points that a ``sweep:`` states.

    A mapping crosses the values of its keys; a list holds a point an entry. A value may be a mapping of dotted keys
    that are set together; its ``label`` names it.
    """
    if not isinstance(stated, Mapping):
        return [_point(entry) for entry in stated]
    choices = [[_choice(key, value) for value in values] for key, values in stated.items()]
    return [_joined(chosen) for chosen in product(*choices)]


def _point(entry: Mapping[str, Any]) -> Point:
    overrides = {key: value for key, value in entry.items() if key != LABEL}
    labels = (
        {LABEL: _short(entry[LABEL])} if LABEL in entry else {key: _short(value) for key, value in overrides.items()}
    )
    return Point(labels, overrides)


def _choice(key: str, value: Any) -> Point:
    if isinstance(value, Mapping) and LABEL in value:
        return Point({key: _short(value[LABEL])}, {name: each for name, each in value.items() if name != LABEL})
    return Point({key: _short(value)}, {key: value})


def _short(value: Any) -> Any:
    """Return what a table shows of *value*: mappings and lists as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_short(item)}" for key, item in value.items())
    return ", ".join(str(_short(item)) for item in value) if isinstance(value, list | tuple) else value


def _joined(chosen: Sequence[Point]) -> Point:
    labels: dict[str, Any] = {}
    overrides: dict[str, Any] = {}
    for point in chosen:
        labels |= point.labels
        overrides |= point.overrides
    return Point(labels, overrides)


def is_grid(stated: Any) -> bool:
    """Say whether *stated* has the form of a `Grid`."""
    if isinstance(stated, Mapping):
        return all(isinstance(values, list | tuple) for values in stated.values())
    return isinstance(stated, list | tuple) and all(isinstance(entry, Mapping) for entry in stated)


def swept_keys(chosen: Sequence[Point]) -> tuple[str, ...]:
    """Return the keys of all labels, in their order."""
    return tuple(dict.fromkeys(key for point in chosen for key in point.labels))


def folder_names(chosen: Sequence[Point]) -> list[str]:
    """Return a name for the folder of each point, by what it sets, none twice: ``weights-fp8_rate-2-s``."""
    return distinct_names("_".join(map(_folder_name, point.labels.items())) for point in chosen)


def _folder_name(label: tuple[str, Any]) -> str:
    """Return the last part of a key and its value, as a part of a folder's name."""
    key, value = label
    return plain_name(f"{key.rpartition('.')[2]}-{value}")


def unmatched(wanted: Mapping[str, Any], chosen: Sequence[Point], *where: str | int) -> list[Problem]:
    """Return a problem for every key of *wanted* that is not swept, or not with that value."""
    problems = []
    for key, value in wanted.items():
        known = [point.labels[key] for point in chosen if key in point.labels]
        if not known:
            problems.append(Problem((*where, key), f"is not swept; swept: {', '.join(swept_keys(chosen))}"))
        elif value not in known:
            listed = ", ".join(dict.fromkeys(map(str, known)))
            problems.append(Problem((*where, key), f"{value!r} is not among the swept values: {listed}"))
    return problems
