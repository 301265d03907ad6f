"""YAML files as plain data that remembers where each key stood, and the one message that lists their problems."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
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


OUTSIDE = Place("", 0)
"""The place of keys set on the command line, by a sweep or in Python."""


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

    def override(self, path: str, value: Any) -> None:
        """Set the key at dotted *path*; mappings on the way are made, lists are indexed.

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
                self.places[keys[: depth + 1]] = OUTSIDE
            node = node[key]
        self.places = {place: at for place, at in self.places.items() if place[: len(keys)] != keys}
        self.places[keys] = OUTSIDE

    def lay_over(self, base: Document, where: Location = ()) -> None:
        """Fill in the mapping at *where* with what it leaves out of *base*; lists are not merged."""
        hidden = set(_overlay(base.data, self.at(where), ()))
        for key, place in base.places.items():
            if not any(key[: len(above)] == above for above in hidden):
                self.places.setdefault((*where, *key), place)

    def error(self, problems: Iterable[Problem]) -> SpecError:
        """Return the error that lists *problems*: those of this file in the order of their lines, then of others."""
        rows = {(self.place_of(p.where) or Place(self.label, 0), dotted(p.where), p.message) for p in problems}
        ordered = sorted(rows, key=lambda row: (row[0].file not in {self.label, ""}, row))
        return SpecError(f"{self.label}:\n" + "\n".join(self._row(*row) for row in ordered))

    def _row(self, place: Place, where: str, message: str) -> str:
        start = f"line {place.line}: " if place.line else ""
        if place == OUTSIDE:
            start = "set from outside the file: "
        elif place.file != self.label:
            start = f"{place.file}, {start}"
        # A message may be that of another file, with lines of its own.
        text = message.replace("\n", "\n  ")
        return f"  {start}{where}: {text}" if where else f"  {start}{text}"


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


def read_document(path: Path, label: str | None = None) -> Document:
    """Read a YAML (or JSON) mapping from *path*.

    Raises:
        SpecError: If the file cannot be read, is not YAML, or is not a mapping; with its line.
    """
    label = label or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(f"{label}: cannot be read: {reason}") from None
    return parse_document(text, label, path.parent)


def parse_document(text: str, label: str, folder: Path) -> Document:
    """Parse the *text* of a YAML mapping; see `read_document`."""
    # A sweep reads the same few files at every point; lists and default laws go through the whole catalog.
    return deepcopy(_parse(text, label, folder))


@lru_cache(maxsize=256)
def _parse(text: str, label: str, folder: Path) -> Document:
    from ruamel.yaml import YAML  # noqa: PLC0415 - slow to import
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415

    try:
        tree = YAML(typ="rt").load(io.StringIO(text))
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise SpecError(f"{label}:\n  {line}not YAML: {_first_words(error.problem)}") from None
    except (YAMLError, ValueError) as error:
        raise SpecError(f"{label}: not YAML: {_first_words(str(error))}") from None
    except RecursionError:
        raise SpecError(f"{label}: nested too deeply") from None
    if not isinstance(tree, dict):
        raise SpecError(f"{label}: expected a mapping of keys, found {described(tree)}")
    document = Document(label, {}, folder=folder)
    document.data = _plain(tree, (), document)
    return document


def _first_words(problem: str | None) -> str:
    """Return the first line of what the YAML reader says, without a repeated key's values."""
    return (problem or "").strip().splitlines()[0].split(" with value ")[0] if problem else "cannot be read"


def parse_scalar(text: str) -> Any:
    """Read one value as YAML would: ``"4"`` is an int, ``"[mha, mqa]"`` a list, ``"8 GiB"`` a string."""
    from ruamel.yaml import YAML  # noqa: PLC0415
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    try:
        return _plain(YAML(typ="rt").load(io.StringIO(text)), (), Document("", {}))
    except (YAMLError, ValueError, RecursionError):
        return text


def dump_yaml(data: dict[str, Any]) -> str:
    """Write *data* as YAML, keys in their order."""
    from ruamel.yaml import YAML  # noqa: PLC0415

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # absent from ruamel's annotations
    yaml.width = 120
    stream = io.StringIO()
    yaml.dump(json.loads(json.dumps(data)), stream)
    return stream.getvalue()


def _plain(node: Any, where: Location, document: Document) -> Any:
    """Turn ruamel's containers into plain ones, noting the place of each key in *document*."""
    lc: Any = getattr(node, "lc", None)
    if lc is not None:
        is_list = isinstance(node, list)
        plain: dict[str | int, Any] = {}
        for key, child in enumerate(node) if is_list else node.items():
            own = key if is_list else str(key)
            # A merged key (<<) has no position of its own; that of its mapping is near enough.
            position = (lc.data or {}).get(key)
            if position is not None:
                document.places[(*where, own)] = Place(document.label, position[0] + 1)
            plain[own] = _plain(child, (*where, own), document)
        return list(plain.values()) if is_list else plain
    if isinstance(node, bool) or node is None:
        return node
    return next((kind(node) for kind in (int, float, str) if isinstance(node, kind)), str(node))


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
