"""Scenarios as data: setting single keys, and writing out what is named where keys of it are stated beside the name."""

from __future__ import annotations

from typing import Any, Final

from gpusim.errors import SpecError
from gpusim.spec.document import Document, split_path
from gpusim.spec.names import Kind, extend, merge_problems
from gpusim.spec.problems import Location, Problem

_EXTENSIBLE: Final[tuple[Kind, ...]] = ("topology", "model", "workload")
"""Keys of a scenario that may hold a mapping that extends something named."""


def set_key(document: Document, path: str, value: Any, by: str) -> None:
    """Set the key at dotted *path*; where it leads into something named, that is written out first.

    Args:
        document: What it is set in.
        path: To the key.
        value: Of the key.
        by: What sets it, as messages say.

    Raises:
        SpecError: If there is no way to such a key.
    """
    keys = split_path(path)
    for where in (keys[:1], keys[:3]):
        if len(where) < len(keys) and where[-1] in _EXTENSIBLE:
            _write_out(document, where, where[-1])
    document.override(path, value, by)


def expand(document: Document) -> list[Problem]:
    """Write out workloads that are named, and whatever extends something named; return what cannot be."""
    engines = document.data.get("engines")
    num_engines = len(engines) if isinstance(engines, list) else 0
    problems = []
    for above in [(), *(("engines", index) for index in range(num_engines))]:
        for kind in _EXTENSIBLE:
            where = (*above, kind)
            if kind == "workload" or isinstance(document.at(where), dict):
                problems += _attempt(document, where, kind)
            if kind == "workload":
                problems += merge_problems(document, where)
    return problems


def _attempt(document: Document, where: Location, kind: Kind) -> list[Problem]:
    try:
        _write_out(document, where, kind)
    except SpecError as error:
        return [Problem(where, str(error))]
    return []


def _write_out(document: Document, where: Location, kind: Kind) -> None:
    """Replace a name at *where*, or a mapping that extends one, by what it means."""
    stated = document.at(where)
    if isinstance(stated, str):
        document.at(where[:-1])[where[-1]] = {"extends": stated}
    if isinstance(stated, str | dict):
        extend(document, kind, where)
