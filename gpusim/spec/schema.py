"""The JSON Schema of files, by which editors complete and check them."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise
from textwrap import dedent
from typing import Any

from gpusim.spec.base import Spec
from gpusim.units import format_quantity

_EXTENDS = {
    "type": "string",
    "description": "Name or path of a file whose keys stand for those that are left out here.",
}
_EXTENSIBLE = ("WorkloadSpec", "TopologySpec", "ModelSpec")
"""What may leave out keys in favour of a file that it extends."""


def json_schema(cls: type[Spec]) -> dict[str, Any]:
    """Return the JSON Schema of files that hold a *cls*, with the ``extends`` that files may have."""
    schema = cls.model_json_schema()
    definitions = schema.get("$defs", {})
    classes = _by_name(Spec)
    for part in (schema, *definitions.values()):
        if part.get("title") in classes:
            _describe(part["properties"], classes[part["title"]])
    # One that may hold itself is among the definitions, and the schema but a reference to it.
    top = [schema] if "properties" in schema else []
    for part in (*top, *(definitions[name] for name in _EXTENSIBLE if name in definitions)):
        part["properties"]["extends"] = _EXTENDS
        required = part.pop("required", [])
        if required:
            part["anyOf"] = [{"required": required}, {"required": ["extends"]}]
    _state_units(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _by_name(cls: type[Spec]) -> dict[str, type[Spec]]:
    """Return *cls* and all that is derived from it."""
    return {cls.__name__: cls} | {name: each for sub in cls.__subclasses__() for name, each in _by_name(sub).items()}


def _describe(properties: dict[str, Any], cls: type[Spec]) -> None:
    """Give each key the docstring of its attribute.

    Pydantic would do it whenever a class is made, which takes a tenth of the start-up of every run.
    """
    docstrings: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        if issubclass(each, Spec):
            docstrings |= _attribute_docstrings(each)
    for name, field in cls.model_fields.items():
        if name in docstrings:
            properties[field.alias or name]["description"] = docstrings[name]


def _attribute_docstrings(cls: type[Spec]) -> dict[str, str]:
    """Return the text that stands below each annotated attribute in the source of *cls*."""
    (tree,) = ast.parse(dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for above, node in pairwise(tree.body):
        match above, node:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text)
    return found


def _state_units(node: Any, described_by: dict[str, Any] | None = None) -> None:
    """Say in the description of every quantity what it is a quantity of, and write its default with a unit.

    Args:
        node: A part of a schema, and all that is in it.
        described_by: What holds the description and the default of *node*, where it is one of several alternatives.
    """
    if isinstance(node, list):
        for item in node:
            _state_units(item, described_by)
    if not isinstance(node, dict):
        return
    if isinstance(node.get("quantity"), str):
        kind, holder = node.pop("quantity"), described_by or node
        for bound in ("gt", "ge", "lt", "le"):
            node.pop(bound, None)
        holder["description"] = f"{holder.get('description', '')} Unit: {kind}, as in {node['examples'][0]}.".lstrip()
        if isinstance(holder.get("default"), float):
            holder["default"] = format_quantity(holder["default"], kind)
    for key, child in node.items():
        _state_units(child, node if key == "anyOf" else None)
