"""A request of a trace, and the values that the formats have in common."""

from __future__ import annotations

import math
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from gpusim.spec.lengths import MOST_TOKENS
from gpusim.workload.content import Content
from gpusim.workload.files import LineError

TIMESTAMP: Final = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN: Final = 60
"""Characters of a wrong value that are shown."""
_MOST_DIGITS: Final = 9


class TraceRow(NamedTuple):
    """One request of a trace."""

    arrival_s: float | None
    """None: it follows another, or the trace states no arrivals."""
    prompt_tokens: int
    output_tokens: int
    content: Content = ()
    priority: int = 0
    is_follower: bool = False
    """Whether it is sent when the row before it is over."""
    think_s: float = 0.0
    """Seconds from then on."""


def tokens(text: str, column: str) -> int:
    """Return the number of tokens that *text* states."""
    if text.isascii() and text.isdigit() and len(text) <= len(str(MOST_TOKENS)) and 1 <= int(text) <= MOST_TOKENS:
        return int(text)
    raise LineError(f"{column} is {text!r}; write a whole number of tokens, from 1 to {MOST_TOKENS}")


def whole(value: Any, name: str, least: int = 1) -> int:
    """Return *value*, read from JSON, if it is a whole number of tokens from *least* on."""
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST_TOKENS:
        return value
    raise LineError(f"{name} is {_short(value)}; write a whole number of tokens, from {least} to {MOST_TOKENS}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def number(value: Any, name: str, unit: str) -> float:
    """Return *value*, read from JSON, if it is a number of *unit* of at least 0."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max:
        return float(value)
    raise LineError(f"{name} is {_short(value)}; write {unit}, a number of at least 0")


def seconds(text: str, column: str) -> float:
    """Return the seconds that *text* states."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 <= value < math.inf) or "_" in text:
        what = "seconds" if column == "think_s" else "seconds from the start"
        raise LineError(f"{column} is {text!r}; write {what}, a number of at least 0")
    return value


def priority(text: str) -> int:
    """Return the priority that *text* states; lower comes first."""
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS:
        return int(text)
    raise LineError(f"priority is {text!r}; write a whole number of at most 9 digits; lower comes first")


def timestamp_ns(text: str) -> int:
    """Return nanoseconds since 1970, exactly: the traces have 7 decimals, more than `datetime` keeps."""
    match = TIMESTAMP.fullmatch(text)
    try:
        if match is None:
            raise ValueError  # noqa: TRY301 - the same message as for a 13th month
        moment = datetime.fromisoformat(match[1] + (match[3] or "Z"))
    except ValueError:
        raise LineError(f"TIMESTAMP is {text!r}; write it like 2023-11-16 18:15:46.6805900") from None
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + int((match[2] or "").ljust(9, "0"))


def is_number(text: str) -> bool:
    """Tell whether *text* is a number or a time stamp, and so no name of a column."""
    try:
        float(text)
    except ValueError:
        return TIMESTAMP.fullmatch(text) is not None
    return True


class InOrder:
    """Checks that arrivals do not go back; made for one reading of one file.

    Args:
        name: Of the arrivals, in messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._last_s = -math.inf

    def check(self, arrival_s: float, written: Any) -> float:
        """Return *arrival_s* if it is not before the one above."""
        if arrival_s < self._last_s:
            raise LineError(f"{self.name} {written!r} is before the line above; sort the file by {self.name}")
        self._last_s = arrival_s
        return arrival_s
