"""Quantities with units: SI floats inside, written units in files.

Bytes come decimal (``GB`` = 10⁹) and binary (``GiB`` = 2³⁰). Memory capacities are sold in binary units,
bandwidths in decimal ones; files say which. The only integer quantity is the clock (`gpusim.core.clock`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema

KB: Final = 1e3
MB: Final = 1e6
GB: Final = 1e9
TB: Final = 1e12
KiB: Final = 2.0**10
MiB: Final = 2.0**20
GiB: Final = 2.0**30
TiB: Final = 2.0**40

ps: Final = 1e-12
ns: Final = 1e-9
us: Final = 1e-6
ms: Final = 1e-3
LONGEST_S: Final = 9e6
"""Seconds of which 64 bits can count picoseconds, as the clock and the logs do: 104 days."""

minute: Final = 60.0
hour: Final = 3600.0

_BYTES: Final = {
    "B": 1.0,
    "kB": KB,
    "KB": KB,
    "MB": MB,
    "GB": GB,
    "TB": TB,
    "KiB": KiB,
    "MiB": MiB,
    "GiB": GiB,
    "TiB": TiB,
}
_SECONDS: Final = {"s": 1.0, "ms": ms, "us": us, "µs": us, "ns": ns, "ps": ps, "min": minute, "h": hour}
_METRIC: Final = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}

UNITS: Final[dict[str, dict[str, float]]] = {
    "bytes": _BYTES,
    "bytes/s": {f"{name}/s": factor for name, factor in _BYTES.items()},
    "seconds": _SECONDS,
    "FLOP/s": {f"{p}FLOP/s": f for p, f in _METRIC.items()} | {f"{p}OP/s": f for p, f in _METRIC.items()},
    "hertz": {f"{p}Hz": f for p, f in _METRIC.items()},
    "per second": {f"{p}/s": f for p, f in _METRIC.items()} | {"/min": 1 / minute, "/h": 1 / hour},
    "tokens/s": {"tokens/s": 1.0},
}
"""Accepted spellings of each kind of quantity and their factor to SI."""

_EXAMPLES: Final = {
    "bytes": "80 GiB",
    "bytes/s": "3.35 TB/s",
    "seconds": "2 us",
    "FLOP/s": "989 TFLOP/s",
    "hertz": "1.98 GHz",
    "per second": "5.5 /s",
    "tokens/s": "100 tokens/s",
}
_USUAL: Final = {
    "bytes": "GiB (or B, KiB, MiB, GB)",
    "bytes/s": "GB/s (or MB/s, TB/s)",
    "seconds": "ms (or s, us, ns)",
    "FLOP/s": "TFLOP/s",
    "hertz": "GHz (or MHz)",
    "per second": "/s",
    "tokens/s": "tokens/s",
}
"""What may have been meant by a bare number: the most usual unit first."""
_QUANTITY: Final = re.compile(r"\s*([+-]?[0-9][0-9_]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*(\S.*?)?\s*")

FROM_FILE: Final = {"from_file": True}
"""Validation context under which a bare number for a quantity is an error."""


def parse_quantity(text: str, kind: str) -> float:
    """Turn *text* such as ``"3.35 TB/s"`` into the SI value of a quantity of *kind* (a key of `UNITS`).

    Raises:
        ValueError: If the number or the unit is missing or unknown; the message names the way out.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a number with a unit; write it like {_EXAMPLES[kind]}")
    number, unit = match.groups()
    if unit is None:
        raise ValueError(f"write the unit, e.g. {number} {_USUAL[kind]}")
    factor = UNITS[kind].get(unit)
    if factor is None:
        known = ", ".join(name.strip() for name in UNITS[kind] if name not in {"KB", "µs"})
        raise ValueError(f"{unit!r} is not a unit of {kind}; use one of {known}")
    return float(number.replace("_", "")) * factor


def _validate(value: Any, info: ValidationInfo, *, kind: str) -> Any:
    if isinstance(value, str):
        value = parse_quantity(value, kind)
    elif isinstance(value, bool):
        raise ValueError(f"write a quantity like {_EXAMPLES[kind]}")  # noqa: TRY004 - pydantic collects ValueError
    elif isinstance(value, float) and not math.isfinite(value):
        pass
    elif isinstance(value, int | float) and info.context is not None and info.context.get("from_file"):
        raise ValueError(f"write the unit, e.g. {value} {_USUAL[kind]}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be a finite number, not {value}")
    if kind == "seconds" and isinstance(value, int | float) and abs(value) > LONGEST_S:
        raise ValueError(f"must be at most {LONGEST_S:g} s, not {value:g} s")
    return value


def _schema(kind: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "quantity": kind, "examples": [_EXAMPLES[kind]]})


def _serializer(kind: str) -> PlainSerializer:
    """Write quantities with their unit into files; in Python they stay floats."""
    return PlainSerializer(partial(format_quantity, kind=kind), return_type=str, when_used="json")


def _quantity(kind: str) -> Callable[[Any, ValidationInfo], Any]:
    return partial(_validate, kind=kind)


def format_quantity(value: float, kind: str) -> str:
    """Write *value* (SI) so that `parse_quantity` gives it back exactly, in the largest unit that allows it."""
    units = UNITS[kind]
    for unit, factor in sorted(units.items(), key=lambda item: -item[1]):
        short = f"{value / factor:.12g}"
        if abs(value) >= factor and float(short) * factor == value and len(short) <= 8:
            return f"{short} {unit}"
    base = next(unit for unit, factor in units.items() if factor == 1.0)
    return f"{value!r} {base}"


Bytes = Annotated[float, BeforeValidator(_quantity("bytes")), _serializer("bytes"), _schema("bytes")]
BytesPerS = Annotated[float, BeforeValidator(_quantity("bytes/s")), _serializer("bytes/s"), _schema("bytes/s")]
Seconds = Annotated[float, BeforeValidator(_quantity("seconds")), _serializer("seconds"), _schema("seconds")]
FlopPerS = Annotated[float, BeforeValidator(_quantity("FLOP/s")), _serializer("FLOP/s"), _schema("FLOP/s")]
Hertz = Annotated[float, BeforeValidator(_quantity("hertz")), _serializer("hertz"), _schema("hertz")]
PerS = Annotated[float, BeforeValidator(_quantity("per second")), _serializer("per second"), _schema("per second")]
