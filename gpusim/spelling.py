"""Words of messages: how many there are of something, and what to say of a name that is not known."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Final

NUMBERS: Final = re.compile(r"\d+")
"""What is left out of names of things that are alike: ``gpu0`` and ``gpu1``."""
MANY: Final = 24
"""More names than anybody reads in a message."""


def counted(number: int, noun: str, plural: str = "", *, thousands: str = "") -> str:
    """Write *number* with its noun: ``1 request``, ``2 requests``.

    Args:
        number: How many there are.
        noun: What they are, of one.
        plural: Of several, where that is not the noun with an s.
        thousands: Between groups of three digits.
    """
    return f"{number:{thousands}} {noun if number == 1 else plural or noun + 's'}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return which of *known* was probably meant by *name*, as a question; empty where none is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else ""


def unknown_name(name: str, known: Sequence[str], what: str) -> str:
    """Say that *name* is unknown, and which of *known* was probably meant."""
    hint = nearest(name, known) or (f"known: {', '.join(known)}" if 0 < len(known) <= MANY else "")
    return f"unknown {what}; {hint}" if hint else f"unknown {what}"
