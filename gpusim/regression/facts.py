"""What a baseline keeps of its scenario: little enough to review, enough to say what was changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gpusim.results.machines import machine_facts
from gpusim.results.summary import scenario_hash

_DESCRIPTIONS: Final = frozenset({"schema", "source", "published", "relative_to"})
"""Keys that no simulated number depends on."""
_CATALOG: Final = frozenset({"topology", "model"})
"""Parts that are long and mostly known by name: one fact each."""
_MACHINE: Final = "topology."
"""Before what is said of the machine in words."""
_DIGITS: Final = 12
"""Hexadecimal digits of a digest: 48 bits."""
_SHORT: Final = 8
"""Entries of a list that is kept as it is."""

Fact = str | int | float | bool


def facts(scenario: Mapping[str, Any]) -> dict[str, Fact]:
    """Return the settings of a resolved *scenario* by dotted path, sorted.

    Machine and model are one fact each, their name and a digest of all they say, and of the machine its GPUs and links in
    words; so are long lists and tables such as the quantiles of a length. Absent settings and descriptions are left out.
    """
    topology = scenario.get("topology")
    machine = machine_facts(topology) if isinstance(topology, Mapping) else {}
    return dict(sorted([*_facts(scenario, ""), *((f"{_MACHINE}{name}", text) for name, text in machine.items())]))


def changes(before: Mapping[str, Fact], now: Mapping[str, Fact]) -> list[tuple[str, Fact | None, Fact | None]]:
    """Return the facts that differ, sorted by path, each with both values; None where there is none.

    Machines in words, which the first baselines lack and a digest stands for, are compared where both sides have them.
    """
    in_words = all(any(path.startswith(_MACHINE) for path in side) for side in (before, now))
    paths = sorted(path for path in {*before, *now} if in_words or not path.startswith(_MACHINE))
    return [(path, before.get(path), now.get(path)) for path in paths if before.get(path) != now.get(path)]


def _facts(part: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Fact]]:
    for key, value in part.items():
        path = f"{prefix}{key}"
        if key in _DESCRIPTIONS or value is None or value in ({}, []):
            continue
        if isinstance(value, Mapping) and not (key in _CATALOG or _is_table(value)):
            yield from _facts(value, f"{path}.")
        elif _is_named_list(value):
            yield from _facts({entry["name"]: entry for entry in value}, f"{path}.")
        elif isinstance(value, Mapping | list):
            yield path, _listed(value) or _digest(value)
        else:
            yield path, value


def _is_table(value: Mapping[str, Any]) -> bool:
    """Say whether the keys of *value* are values themselves, such as levels of quantiles."""
    return not all(str(key).isidentifier() for key in value)


def _is_named_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, Mapping) and "name" in entry for entry in value)


def _listed(value: Any) -> str:
    """Return the entries of a short list of words or numbers, nothing for anything longer."""
    is_short = (
        isinstance(value, list) and len(value) <= _SHORT and not any(isinstance(e, Mapping | list) for e in value)
    )
    return ", ".join(map(str, value)) if is_short else ""


def _digest(value: Any) -> str:
    """Return the name of *value*, if it has one, and the digest of what it says."""
    name = value.get("name", "") if isinstance(value, Mapping) else ""
    digest = scenario_hash({"": value})[:_DIGITS]
    return f"{name} #{digest}" if name else f"#{digest}"
