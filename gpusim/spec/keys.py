"""The dotted keys of a scenario, and which words may stand there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from gpusim.spec.folders import Kind
from gpusim.spec.scenario import Scenario

KINDS_OF: Final[Mapping[str, Sequence[Kind]]] = {
    "topology": ("topology", "device"),
    "model": ("model",),
    "workload": ("workload",),
    "serving.engine": ("engine",),
}
"""Keys whose value may be a name that gpusim knows."""


def keys_below(parent: str) -> list[str]:
    """Return the keys of the mapping at *parent* (empty: of the scenario): with ``=`` if they take a value, ``.`` if keys."""
    found = []
    prefix = f"{parent}." if parent else ""
    for cls in _specs(_annotations(parent)):
        for name, field in cls.model_fields.items():
            parts = list(_parts(field.annotation))
            ends = [end for end, there in (("=", len(parts) > len(_specs(parts))), (".", bool(_specs(parts)))) if there]
            found += [f"{prefix}{field.alias or name}{end}" for end in ends]
    return list(dict.fromkeys(found))


def values_of(key: str) -> list[str]:
    """Return the words that may stand at *key*; none where it is a number or free text."""
    found: list[str] = []
    for part in _annotations(key):
        if get_origin(part) is Literal:
            found += map(str, get_args(part))
        elif part is bool:
            found += ["true", "false"]
    return found


def _annotations(key: str) -> list[Any]:
    """Return what the value at *key* may be."""
    found: list[Any] = [Scenario]
    for name in key.split(".") if key else ():
        fields = [
            field for cls in _specs(found) for own, field in cls.model_fields.items() if name in {own, field.alias}
        ]
        found = [part for field in fields for part in _parts(field.annotation)]
    return found


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield the alternatives of *annotation* except None."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _parts(get_args(annotation)[0])
    elif origin in {Union, UnionType}:
        for part in get_args(annotation):
            yield from _parts(part)
    elif annotation is not NoneType:
        yield annotation


def _specs(parts: Sequence[Any]) -> list[type[BaseModel]]:
    return [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
