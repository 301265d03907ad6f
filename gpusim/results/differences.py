"""What differs between two resolved scenarios, key by key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gpusim.results.machines import Found, Key, device_differences, machine_differences

_SAYS_NOTHING: Final = {"name", "fits", "fitted_on", "source", "sweep", "relative_to", "published"}
"""Keys that change no number of a run."""
_TAKEN_APART: Final[Mapping[str, Callable[[Key, Any, Any], Found]]] = {
    "device": device_differences,
    "model": lambda *_: iter(()),
    "topology": machine_differences,
}
"""Keys at which another name means another thing, rather than another title; what differs in it is said in a few words."""
_ABSENT: Final = object()
_LONGEST: Final = 60


@dataclass(frozen=True, slots=True)
class Difference:
    """A key whose value differs.

    Args:
        key: Dotted path; entries of lists by their name where they have one.
        a: Value in the baseline; None where the key is absent.
        b: Value in the other scenario.
        others: Further keys of the same last part that differ in the same way.
    """

    key: str
    a: Any
    b: Any
    others: int = 0

    def __str__(self) -> str:
        also = f" (and {self.others} more alike)" if self.others else ""
        return f"{self.key}: {_short(self.a)} → {_short(self.b)}{also}"


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Return the keys in which *a* and *b* differ, in their order; those that differ alike, of many GPUs say, as one."""
    grouped: dict[str, Difference] = {}
    for key, old, new in _differ((), a, b):
        alike = json.dumps([key[-1:], old, new], sort_keys=True, default=str)
        first = grouped.get(alike, Difference(".".join(key), old, new, others=-1))
        grouped[alike] = Difference(first.key, old, new, first.others + 1)
    return list(grouped.values())


def _differ(key: tuple[str, ...], a: Any, b: Any) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        renamed = bool(key) and "name" in a and "name" in b and a["name"] != b["name"]
        if renamed and key[-1] in _TAKEN_APART:
            yield key, a["name"], b["name"]
            yield from _TAKEN_APART[key[-1]](key, a, b)
            return
        for name in [*a, *(name for name in b if name not in a)]:
            if name not in _SAYS_NOTHING:
                yield from _differ((*key, str(name)), a.get(name, _ABSENT), b.get(name, _ABSENT))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for place, (old, new) in enumerate(zip(a, b, strict=True)):
            yield from _differ((*key, _entry(old, place)), old, new)
    elif a != b:
        yield key, None if a is _ABSENT else a, None if b is _ABSENT else b


def _entry(value: Any, place: int) -> str:
    return str(value.get("name", place)) if isinstance(value, Mapping) else str(place)


def _short(value: Any) -> str:
    if value is None:
        return "–"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
