"""What to say of a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final

MANY: Final = 24
"""More names than anybody reads in a message."""


def unknown_name(name: str, known: Sequence[str], what: str) -> str:
    """Say that *name* is unknown, and which of *known* was probably meant."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f'unknown {what}; did you mean "{close[0]}"?'
    return f"unknown {what}" if len(known) > MANY else f"unknown {what}; known: {', '.join(known)}"
