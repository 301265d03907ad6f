"""The JSON Schema of files, by which editors complete and check them."""

from __future__ import annotations

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
    for part in (schema, *(schema["$defs"][name] for name in _EXTENSIBLE if name in schema["$defs"])):
        part["properties"]["extends"] = _EXTENDS
        required = part.pop("required", [])
        if required:
            part["anyOf"] = [{"required": required}, {"required": ["extends"]}]
    _state_units(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


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
