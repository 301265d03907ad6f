"""docs/reference/scenario.md: every key of every file, from the JSON Schema that `gpusim check --schema` prints.

Tools that turn a JSON Schema into a page know nothing of units, nor of keys by their dotted path, by which ``--set`` names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from gpusim.spec.device import DeviceSpec
from gpusim.spec.engine_profile import EngineProfile
from gpusim.spec.model import ModelSpec
from gpusim.spec.scenario import Scenario
from gpusim.spec.schema import json_schema
from gpusim.spec.topology import TopologySpec
from gpusim.spec.workload import WorkloadSpec
from reference_pages.markdown import code, prose, table

HEAD: Final = """# Keys of files

Every key that a file may have, by its dotted path from the top of the file; `[]` stands for any entry of a list, `NAME` for any
key of a mapping. Of a scenario any key can be set on the command line by its path: `--set serving.max_num_seqs=64`. Quantities are
written with a unit; bare numbers are errors. Keys are refused where they are unknown. `gpusim check --schema` prints the
same as a JSON Schema, for editors.
"""
FILES: Final = {
    "Scenario": (Scenario, "Scenario files", "What `gpusim run` takes; [examples](../../examples/chat.yaml)."),
    "WorkloadSpec": (
        WorkloadSpec,
        "Workload files",
        "Under `workload`, by name, or as a file; [workloads](../workloads.md).",
    ),
    "ModelSpec": (ModelSpec, "Model files", "Under `model`, by name, or as a file; [own models](../own-model.md)."),
    "TopologySpec": (
        TopologySpec,
        "Topology files",
        "Under `topology`, by name, or as a file; [catalog](../catalog.md).",
    ),
    "DeviceSpec": (
        DeviceSpec,
        "Device files",
        "Under `nodes[].device`, by name, or as a file; [own devices](../own-device.md).",
    ),
    "EngineProfile": (
        EngineProfile,
        "Engine profiles",
        "Under `serving.engine`, by name, or as a file; [serving runs](../serving-runs.md).",
    ),
}
UNIT: Final = re.compile(r"\s*Unit: (.+), as in (.+)\.$")
BOUNDS: Final = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for name, (cls, title, about) in FILES.items():
        schema = json_schema(cls)
        parts.append(f"## {title}\n\n{about}\n")
        parts += _sections(schema, name)
    return "\n".join(parts)


def _sections(schema: dict[str, Any], name: str) -> Iterator[str]:
    """Describe a file's own keys, then what stands at them, from the outside in."""
    places: dict[str, list[str]] = {name: [""]}
    queue = [name]
    while queue:
        current = queue.pop(0)
        for key, node in _part(schema, current)["properties"].items():
            for suffix, target in _references(node):
                if target in FILES:
                    continue
                if target not in places:
                    queue.append(target)
                path = f"{places[current][0]}{key}{suffix}."
                places.setdefault(target, []).append(path)
    for each, where in places.items():
        yield _section(schema, each, where)


def _part(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return schema if "properties" in schema and schema.get("title") == name else schema["$defs"][name]


def _references(node: Any, suffix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the names of the parts that may stand at *node*, each with what the path gains on the way."""
    if isinstance(node, list):
        for each in node:
            yield from _references(each, suffix)
    if not isinstance(node, dict):
        return
    if "$ref" in node:
        yield suffix, node["$ref"].rsplit("/", 1)[1]
    for key, step in (
        ("anyOf", ""),
        ("oneOf", ""),
        ("items", "[]"),
        ("prefixItems", "[]"),
        ("additionalProperties", ".NAME"),
    ):
        yield from _references(node.get(key), suffix + step)


def _section(schema: dict[str, Any], name: str, where: list[str]) -> str:
    part = _part(schema, name)
    first, *others = where
    kind = part["properties"].get("kind", {}).get("const")
    title = f"### `{first[:-1]}`" + (f" with `kind: {kind}`" if kind else "") + "\n\n" if first else ""
    also = f" Likewise at {', '.join(code(path[:-1]) for path in others)}." if others else ""
    required = {
        key for group in (part, *part.get("anyOf", ())) for key in group.get("required", ()) if key != "extends"
    }
    rows = [
        _row(first + key, node, key in required, _of_what_stands_there(schema, node))
        for key, node in part["properties"].items()
    ]
    return f"{title}{prose(part.get('description', ''))}{also}\n\n" + table(
        ("key", "type", "unit", "default", "meaning"), rows
    )


def _of_what_stands_there(schema: dict[str, Any], node: dict[str, Any]) -> str:
    """Return the first sentence about the only part that may stand at *node*, for keys that say nothing themselves."""
    parts = [name for _, name in _references(node)]
    text = _part(schema, parts[0]).get("description", "") if len(parts) == 1 else ""
    return str(text).split("\n", 1)[0]


def _row(path: str, node: dict[str, Any], required: bool, otherwise: str) -> tuple[str, ...]:
    """Return the row of a key; *otherwise* is what it means where it does not say so itself."""
    meaning = node.get("description") or otherwise
    if isinstance(node.get("additionalProperties"), dict):
        meaning += " " + node["additionalProperties"].get("description", "")
    unit = UNIT.search(meaning)
    shown = f"{unit[1]}, as {code(unit[2])}" if unit else ""
    return code(path), _type(node), shown, _default(node, required), prose(UNIT.sub("", meaning))


def _default(node: dict[str, Any], required: bool) -> str:
    if required:
        return "required"
    default = node.get("default")
    if default in (None, "", [], {}):
        return ""
    return (
        "its own"
        if isinstance(default, dict)
        else code(str(default).lower() if isinstance(default, bool) else str(default))
    )


def _type(node: dict[str, Any]) -> str:
    """Return what may stand at a key, in words."""
    values = node.get("enum") or ([node["const"]] if "const" in node else [])
    alternatives = node.get("anyOf") or node.get("oneOf") or []
    if values or alternatives:
        kinds = [*map(code, values), *(_type(each) for each in alternatives if each.get("type") != "null")]
        return " or ".join(dict.fromkeys(kinds))
    if "examples" in node:
        return "quantity"
    if node.get("type") == "array":
        return f"list of {_type(node.get('items', {}))}"
    if "$ref" in node or node.get("type") == "object":
        return "mapping"
    bounds = ", ".join(text.format(node[key]) for key, text in BOUNDS.items() if key in node)
    return f"{node.get('type', 'any')} {bounds}".strip()
