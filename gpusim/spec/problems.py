"""What is wrong with a file, in words: pydantic's list of errors as problems with a place in the user's data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from gpusim.errors import GpusimError
from gpusim.spec.unknown_key import keys_of, unknown_key
from gpusim.spelling import unknown_name

Location = tuple[str | int, ...]
T = TypeVar("T")

_NOUNS: Final = {
    "dict": "a mapping",
    "model": "a mapping",
    "list": "a list",
    "tuple": "a list",
    "string": "a name",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "finite": "a finite number",
}
"""What is expected, by the first word of pydantic's error type (``int_parsing``, ``model_attributes_type``)."""
_BOUNDS: Final = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
"""How a bound is called, and where pydantic's context has it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a file: which key, and what to do about it."""

    where: Location
    message: str


@dataclass
class Problems:
    """What is wrong so far."""

    found: list[Problem] = field(default_factory=list)

    def add(self, where: Location, message: str) -> None:
        """Note that the key at *where* is wrong."""
        self.found.append(Problem(where, message))

    def attempt(self, where: Location, action: Callable[[], T]) -> T | None:
        """Return what *action* does, or None and a problem at *where*."""
        try:
            return action()
        except (GpusimError, ValueError) as error:
            self.add(where, str(error))
            return None


def problems_of(cls: type[BaseModel], data: Any, error: ValidationError) -> list[Problem]:
    """Return what *error*, from validating *data* as a *cls*, says is wrong."""
    rows = [_Row(cls, data, row) for row in error.errors()]
    expected: dict[Location, list[_Row]] = {}
    for row in rows:
        if row.noun:
            expected.setdefault(row.where, []).append(row)
    # Where several kinds of value are allowed, pydantic says of each why it is not that, though one has its own problem.
    inside = {row.where[:end] for row in rows for end in range(len(row.where))}
    inside |= {row.where for row in rows if not row.noun}
    wrong_kinds = [_wrong_kind(same) for where, same in expected.items() if where not in inside]
    return [row.problem() for row in rows if not row.noun] + wrong_kinds


def _wrong_kind(rows: Sequence[_Row]) -> Problem:
    nouns = " or ".join(dict.fromkeys(row.noun for row in rows))
    return Problem(rows[0].where, f"expected {nouns}, not {described(rows[0].value)}")


class _Row:
    """One of pydantic's errors; its location loses the tags of unions, which are not in the file."""

    def __init__(self, cls: type[BaseModel], data: Any, row: Any) -> None:
        self.type: str = row["type"]
        self.message: str = row["msg"]
        self.context: dict[str, Any] = row.get("ctx", {})
        self.classes = {cls}
        """What the innermost mapping on the way may be."""
        self.value = data
        """What the user wrote there."""
        self.where: Location = ()
        for part in row["loc"]:
            self._enter(part)

    def _enter(self, part: str | int) -> None:
        tagged = {cls for cls in self.classes if part in (*_tags(cls), cls.__name__)}
        in_data = (isinstance(self.value, dict) and part in self.value) or _indexes(self.value, part)
        known = any(part in keys_of(cls) for cls in self.classes)
        if tagged and len(self.classes) > 1:
            # Of several alternatives pydantic names the one it tried, which may be called like a key of it.
            self.classes = tagged
        elif in_data or (known and self.type == "missing"):
            self.where = (*self.where, part)
            self.value = self.value[part] if in_data else None
            if isinstance(part, str) and known:
                self.classes = set().union(*(_classes(cls, part) for cls in self.classes))

    @property
    def noun(self) -> str:
        """What was expected, where it is a kind of value; else empty."""
        if self.type == "union_tag_not_found" and not isinstance(self.value, dict):
            return _NOUNS["dict"]
        is_about_kind = self.type.endswith(("_type", "_parsing", "_parsing_size", "_from_float", "_number"))
        return _NOUNS.get(self.type.partition("_")[0], "") if is_about_kind else ""

    def problem(self) -> Problem:
        """Return this error in our words."""
        if self.type.startswith("union_tag"):
            return Problem((*self.where, "kind"), self._wrong_tag())
        return Problem(self.where, self._message())

    def _message(self) -> str:
        if self.type == "missing":
            return "this key is required" + ("; write schema: 1" if self.where == ("schema",) else "")
        if self.type == "value_error":
            return str(self.context["error"])
        if self.type in {"extra_forbidden", "literal_error"}:
            return self._unknown()
        if self.type in _BOUNDS:
            words, name = _BOUNDS[self.type]
            bound = self.context[name]
            return f"must be {words} {bound if isinstance(bound, int) else f'{bound:g}'}, not {self.value}"
        if self.type == "too_short":
            return f"must have {self.context['min_length']} or more entries, not {self.context['actual_length']}"
        return self.message[0].lower() + self.message[1:]

    def _unknown(self) -> str:
        if self.type == "extra_forbidden":
            return unknown_key(str(self.where[-1]), self.classes)
        known = re.findall(r"'([^']*)'", self.context["expected"])
        return f"{described(self.value)}: {unknown_name(str(self.value), known, 'value')}"

    def _wrong_tag(self) -> str:
        if self.type == "union_tag_not_found":
            return f"this key is required: {', '.join(sorted(str(tag) for cls in self.classes for tag in _tags(cls)))}"
        known = re.findall(r"'([^']*)'", self.context["expected_tags"])
        return f"{self.context['tag']!r}: {unknown_name(str(self.context['tag']), known, 'kind')}"


def described(value: Any) -> str:
    """Say what *value* is, for a message: scalars as they are, others by their kind."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else repr(value)


def _indexes(node: Any, key: str | int) -> bool:
    return isinstance(node, list) and isinstance(key, int) and key < len(node)


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
