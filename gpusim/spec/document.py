"""Plain data that remembers where each key stood, what makes a spec of it, and the one message that lists its problems."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import ValidationError

from gpusim.errors import SpecError
from gpusim.spec.base import Spec
from gpusim.spec.problems import Location, Problem, described, problems_of
from gpusim.units import FROM_FILE

AnySpec = TypeVar("AnySpec", bound=Spec)
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Place(NamedTuple):
    """Where a key is written."""

    file: str
    line: int
    """0: it is in no file, but was set by what `file` says."""


@dataclass(slots=True)
class Document:
    """A parsed file: its data, and the place of every key."""

    label: str
    """What messages call it: the path as the user wrote it, or the name."""
    data: dict[str, Any]
    places: dict[Location, Place] = field(default_factory=dict)
    folder: Path = Path()
    """Paths inside the file are relative to this folder."""

    def place_of(self, where: Location) -> Place | None:
        """Return the place of the deepest known key on the way to *where*."""
        known = (where[:end] for end in range(len(where), 0, -1))
        return next((self.places[key] for key in known if key in self.places), None)

    def at(self, where: Location) -> Any:
        """Return the value at *where*; None if there is none."""
        node: Any = self.data
        for key in where:
            if not ((isinstance(node, dict) and key in node) or _indexes(node, key)):
                return None
            node = node[key]
        return node

    def override(self, path: str, value: Any, by: str = "overrides") -> None:
        """Set the key at dotted *path*; mappings on the way are made, lists are indexed; messages say *by* what.

        Raises:
            SpecError: If the path leads into something that has no keys.
        """
        keys = split_path(path)
        node: Any = self.data
        for depth, key in enumerate(keys):
            if not (isinstance(node, dict) or _indexes(node, key)):
                raise SpecError(f"{path}: {dotted(keys[:depth])} is {described(node)}, without a key {key}")
            if depth == len(keys) - 1:
                node[key] = value
            elif isinstance(node, dict) and node.get(key) is None:
                node[key] = {}
                self.places[keys[: depth + 1]] = Place(by, 0)
            node = node[key]
        self.places = {place: at for place, at in self.places.items() if place[: len(keys)] != keys}
        self.places[keys] = Place(by, 0)

    def lay_over(self, base: Document, where: Location = ()) -> None:
        """Fill in the mapping at *where* with what it leaves out of *base*; lists are not merged."""
        hidden = set(_overlay(base.data, self.at(where), ()))
        for key, place in base.places.items():
            if not any(key[: len(above)] == above for above in hidden):
                self.places.setdefault((*where, *key), place)

    def error(self, problems: Iterable[Problem]) -> SpecError:
        """Return the error that lists *problems*: of what was set, of this file in the order of its lines, then of others."""
        rows = {(self.place_of(p.where) or Place(self.label, 0), dotted(p.where), p.message) for p in problems}
        ordered = sorted(rows, key=lambda row: (self._rank(row[0]), row))
        return SpecError(f"{self.label}:\n" + "\n".join(self._row(*row) for row in ordered))

    def _row(self, place: Place, where: str, message: str) -> str:
        start = self._named(place)
        # A message may be that of another file, with lines of its own.
        text = message.replace("\n", "\n  ")
        return f"  {start}{where}: {text}" if where else f"  {start}{text}"

    def _named(self, place: Place) -> str:
        if place.file == self.label:
            return f"line {place.line}: " if place.line else ""
        return f"{place.file}, line {place.line}: " if place.line else f"set by {place.file}: "

    def _rank(self, place: Place) -> int:
        return 1 if place.file == self.label else 2 if place.line else 0


def split_path(path: str) -> Location:
    """Split a dotted path into its keys; numbers index lists.

    Raises:
        SpecError: If there is nothing before, between or after its dots.
    """
    keys = tuple(int(part) if part.isdecimal() else part for part in path.split("."))
    if "" in keys:
        raise SpecError(f"{path!r}: write keys with a dot between them, e.g. serving.max_num_seqs")
    return keys


def _indexes(node: Any, key: str | int) -> bool:
    return isinstance(node, list) and isinstance(key, int) and key < len(node)


def _overlay(base: dict[str, Any], top: dict[str, Any], where: Location) -> Iterator[Location]:
    """Add to *top* what only *base* has; yield the keys of *base* that *top* hides."""
    for key, below in base.items():
        own = top.setdefault(key, below)
        if own is below:
            continue
        if (
            isinstance(own, dict)
            and isinstance(below, dict)
            and own.get("kind", below.get("kind")) == below.get("kind")
        ):
            yield from _overlay(below, own, (*where, key))
        else:
            yield (*where, key)


def dotted(where: Location) -> str:
    """Write *where* as in messages: ``engines[0].gpus``."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def validate(cls: type[AnySpec], document: Document) -> AnySpec:
    """Validate *document* as a *cls*.

    Raises:
        SpecError: With all problems of the file at once.
    """
    spec, problems = _attempt(cls, document.data)
    if spec is None:
        raise document.error(problems)
    return spec


def validate_leniently(
    cls: type[AnySpec], document: Document, placeholders: Mapping[str, Any] = _NOTHING
) -> tuple[AnySpec | None, list[Problem]]:
    """Validate *document*; on problems also return what it would be without the offending keys, if it can be.

    The spec made of the sound part lets a caller look for further problems before it reports the first ones.
    *placeholders* stand in it for keys at the top that are absent or wrong.
    """
    spec, problems = _attempt(cls, document.data)
    sound, found = document.data, problems
    while spec is None:
        pruned = {**placeholders, **_without(sound, found)}
        if pruned == sound:
            break
        sound = pruned
        spec, found = _attempt(cls, sound)
    return spec, problems


def _attempt(cls: type[AnySpec], data: dict[str, Any]) -> tuple[AnySpec | None, list[Problem]]:
    try:
        return cls.model_validate(data, context=FROM_FILE), []
    except ValidationError as error:
        return None, problems_of(cls, data, error)


def _without(data: dict[str, Any], problems: Iterable[Problem]) -> dict[str, Any]:
    """Return *data* without the innermost mapping keys on the way to each of *problems*."""
    sound = deepcopy(data)
    for where in {problem.where for problem in problems}:
        node: Any = sound
        holder, last = {}, ""
        for key in where:
            if not ((isinstance(node, dict) and key in node) or _indexes(node, key)):
                break
            if isinstance(node, dict):
                holder, last = node, str(key)
            node = node[key]
        holder.pop(last, None)
    return sound
