"""Laws as the block of a device file."""

from __future__ import annotations

import re
from typing import Any, Final

from gpusim.spec.laws import DeviceLawsSpec
from gpusim.spec.yaml_files import dump_yaml
from gpusim.units import GB, parse_quantity, us

_DIGITS: Final = 4
_QUANTITY: Final = re.compile(r"([0-9.e+-]+) (s|ms|us|µs|ns|ps|bytes/s|[kKMGT]?B/s|bytes|[kKMGT]i?B)")


def laws_text(laws: DeviceLawsSpec) -> str:
    """Return *laws* as the ``laws:`` block of a device file, numbers with four digits."""
    return dump_yaml({"laws": short(laws.model_dump(mode="json", exclude_defaults=True))})


def short(node: Any) -> Any:
    """Return *node* of a document with numbers and quantities of four digits."""
    if isinstance(node, dict):
        return {key: short(value) for key, value in node.items()}
    if isinstance(node, list):
        return [short(value) for value in node]
    if isinstance(node, float):
        return float(f"{node:.{_DIGITS}g}")
    if isinstance(node, str) and (found := _QUANTITY.fullmatch(node)):
        return _quantity(node, found[2])
    return node


def _quantity(text: str, unit: str) -> str:
    if unit.endswith("/s"):
        return f"{parse_quantity(text, 'bytes/s') / GB:.{_DIGITS}g} GB/s"
    if unit.endswith("s") and unit != "bytes":
        return f"{parse_quantity(text, 'seconds') / us:.{_DIGITS}g} us"
    return text


def with_laws(text: str, laws: DeviceLawsSpec) -> str:
    """Return the *text* of a device file with its ``laws:`` block replaced, or added at the end; all else as it was."""
    lines = text.rstrip("\n").split("\n")
    begins = [number for number, line in enumerate(lines) if line.startswith("laws:")]
    block = laws_text(laws).rstrip("\n").split("\n")
    if not begins:
        return "\n".join([*lines, "", *block]) + "\n"
    begin = begins[0]
    rest = lines[begin + 1 :]
    end = next((number for number, line in enumerate(rest) if line and not line[0].isspace()), len(rest))
    return "\n".join([*lines[:begin], *block, *rest[end:]]) + "\n"
