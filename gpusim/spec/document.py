"""YAML files as plain data that remembers where each key stood, and the one message that lists their problems."""

from __future__ import annotations

import difflib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from gpusim.errors import SpecError
from gpusim.spec.base import Spec
from gpusim.units import FROM_FILE

Location = tuple[str | int, ...]
AnySpec = TypeVar("AnySpec", bound=Spec)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a file: which key, and what to do about it."""

    where: Location
    message: str


@dataclass(slots=True)
class Document:
    """A parsed file: its data, and the line of every key."""

    label: str
    """What messages call it: the path as the user wrote it, or the name."""
    data: dict[str, Any]
    lines: dict[Location, int] = field(default_factory=dict)
    folder: Path = Path()
    """Paths inside the file are relative to this folder."""
    overridden: set[Location] = field(default_factory=set)
    """Keys set from the command line or by a sweep."""

    def line_of(self, where: Location) -> int | None:
        """Return the line of the deepest known key on the way to *where*."""
        for end in range(len(where), 0, -1):
            if where[:end] in self.lines:
                return self.lines[where[:end]]
        return None

    def override(self, path: str, value: Any) -> None:
        """Set the key at dotted *path*; mappings on the way are made, lists are indexed."""
        keys: list[str | int] = [int(part) if part.isdigit() else part for part in path.split(".")]
        node: Any = self.data
        for depth, key in enumerate(keys[:-1]):
            if isinstance(node, dict) and not isinstance(node.get(key), dict | list):
                node[key] = {"extends": node[key]} if isinstance(node.get(key), str) else {}
            node = _child(node, key, ".".join(map(str, keys[: depth + 1])))
        if isinstance(node, list) and not (isinstance(keys[-1], int) and keys[-1] < len(node)):
            raise SpecError(f"--set {path}: no entry {keys[-1]!r} in a list of {len(node)}")
        node[keys[-1]] = value
        self.overridden.add(tuple(keys))

    def error(self, problems: Iterable[Problem]) -> SpecError:
        """Return the error that lists *problems*, in the order of their lines."""
        rows = sorted({(self.line_of(p.where) or 0, _dotted(p.where), p.message) for p in problems})
        texts = [self._row(line, where, message) for line, where, message in rows]
        return SpecError(f"{self.label}:\n" + "\n".join(texts))

    def _row(self, line: int, where: str, message: str) -> str:
        place = f"line {line}: " if line else ""
        if any(_dotted(key) == where for key in self.overridden):
            place = "set from outside the file: "
        return f"  {place}{where}: {message}" if where else f"  {place}{message}"


def _child(node: Any, key: str | int, path: str) -> Any:
    try:
        return node[key]
    except (KeyError, IndexError, TypeError):
        raise SpecError(f"--set {path}: there is no such key to go into") from None


def _dotted(where: Location) -> str:
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
    from ruamel.yaml import YAML  # noqa: PLC0415 - slow to import
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415

    try:
        tree = YAML(typ="rt").load(io.StringIO(text))
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise SpecError(f"{label}:\n  {line}not YAML: {(error.problem or '').splitlines()[0]}") from None
    except YAMLError as error:
        raise SpecError(f"{label}: not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, dict):
        raise SpecError(f"{label}: expected a mapping of keys, found {_kind(tree)}")
    lines: dict[Location, int] = {}
    return Document(label, _plain(tree, (), lines), lines, folder)


def parse_scalar(text: str) -> Any:
    """Read one value as YAML would: ``"4"`` is an int, ``"[mha, mqa]"`` a list, ``"8 GiB"`` a string."""
    from ruamel.yaml import YAML  # noqa: PLC0415
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    try:
        return _plain(YAML(typ="rt").load(io.StringIO(text)), (), {})
    except YAMLError:
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


def _kind(tree: Any) -> str:
    return "nothing" if tree is None else "a list" if isinstance(tree, list) else "a single value"


def _plain(node: Any, where: Location, lines: dict[Location, int]) -> Any:
    """Turn ruamel's containers into plain ones, noting each key's line."""
    lc: Any = getattr(node, "lc", None)
    if isinstance(node, dict):
        for key in node:
            lines[(*where, str(key))] = lc.key(key)[0] + 1
        return {str(key): _plain(value, (*where, str(key)), lines) for key, value in node.items()}
    if isinstance(node, list):
        for index in range(len(node)):
            lines[(*where, index)] = lc.item(index)[0] + 1
        return [_plain(value, (*where, index), lines) for index, value in enumerate(node)]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return str(node)


def validate(cls: type[AnySpec], document: Document) -> AnySpec:
    """Validate *document* as a *cls*.

    Raises:
        SpecError: With all problems of the file at once.
    """
    spec, problems = validate_leniently(cls, document)
    if problems or spec is None:
        raise document.error(problems)
    return spec


def validate_leniently(cls: type[AnySpec], document: Document) -> tuple[AnySpec | None, list[Problem]]:
    """Validate *document*; on problems also return what it would be without the offending keys, if it can be.

    The spec built from the sound part lets a caller look for further problems before it reports the first ones.
    """
    try:
        return cls.model_validate(document.data, context=FROM_FILE), []
    except ValidationError as error:
        problems = [_problem(cls, document.data, row) for row in error.errors() if not _is_other_arm(row)]
    sound = json.loads(json.dumps(document.data))
    for problem in sorted(problems, key=lambda p: -len(p.where)):
        _drop(sound, problem.where)
    try:
        return cls.model_validate(sound, context=FROM_FILE), problems
    except ValidationError:
        return None, problems


def _is_other_arm(row: Any) -> bool:
    """Tell that *row* only says a mapping is not a name, where both are allowed and the mapping has its own problems."""
    return row["type"] == "string_type" and isinstance(row["input"], dict)


def _drop(data: Any, where: Location) -> None:
    for key in where[:-1]:
        data = data[key] if (isinstance(data, dict) and key in data) or _indexes(data, key) else None
    if isinstance(data, dict) and where:
        data.pop(where[-1], None)


def _indexes(data: Any, key: str | int) -> bool:
    return isinstance(data, list) and isinstance(key, int) and key < len(data)


def _problem(cls: type[BaseModel], data: Any, row: Any) -> Problem:
    """Reword one of pydantic's errors; its location loses the tags of unions, which are not in the file."""
    where: list[str | int] = []
    classes = {cls}
    for part in row["loc"]:
        in_data = (isinstance(data, dict) and part in data) or _indexes(data, part)
        known = any(part in _keys(c) for c in classes)
        if in_data or (known and row["type"] == "missing"):
            where.append(part)
            data = data[part] if in_data else None
            if isinstance(part, str) and known:
                classes = set().union(*(_classes(c, part) for c in classes))
        else:
            classes = {c for c in classes if part in _tags(c)} or classes
    kind = row["type"]
    if kind == "extra_forbidden":
        message = unknown_name(str(where[-1]), sorted(set().union(*map(_keys, classes))), "key")
    elif kind == "missing":
        message = "this key is required"
    elif kind == "value_error":
        message = str(row["ctx"]["error"])
    else:
        message = row["msg"][0].lower() + row["msg"][1:] + _given(row.get("input"))
    return Problem(tuple(where), message)


def _given(value: Any) -> str:
    return f", not {value!r}" if isinstance(value, str | int | float | bool) else ""


def unknown_name(name: str, known: Sequence[str], what: str) -> str:
    """Say that *name* is unknown, and which of *known* was probably meant."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f'did you mean "{close[0]}"?' if close else f"known: {', '.join(known)}"
    return f"unknown {what}; {hint}"


def _keys(cls: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in cls.model_fields.items()}


def _tags(cls: type[BaseModel]) -> tuple[Any, ...]:
    kind = cls.model_fields.get("kind")
    return get_args(kind.annotation) if kind is not None else (cls.__name__,)


def _classes(cls: type[BaseModel], key: str) -> set[type[BaseModel]]:
    """Return the spec classes that the value of *key* may be."""
    for name, info in cls.model_fields.items():
        if key in {name, info.alias}:
            return set(_specs_in(info.annotation))
    return set()


def _specs_in(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif getattr(annotation, "__origin__", None) is not Literal:
        for part in get_args(annotation):
            yield from _specs_in(part)
