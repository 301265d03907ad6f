"""Short names of runs, for tables and figures that long ones do not fit into."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

_MOST: Final = 22
"""Characters that fit everywhere."""


def short(names: Sequence[str]) -> dict[str, str]:
    """Return a label for each of *names*, all different: the name, or of long ones what tells them apart."""
    if all(len(name) <= _MOST for name in names):
        return {name: name for name in names}
    # Character by character, as is meant.
    begin = _whole_words(os.path.commonprefix(names)) if len(names) > 1 else ""  # noqa: RUF071
    rest = [name[len(begin) :] for name in names]
    labels = [_elided(f"…{part}" if begin else part) for part in rest]
    if len(set(labels)) < len(labels):
        labels = [f"{number}: {label}" for number, label in enumerate(labels, 1)]
    return dict(zip(names, labels, strict=True))


def _whole_words(text: str) -> str:
    """Return *text* up to the end of its last word that is whole."""
    found = re.match(r".*[^\w.]", text)
    return found[0] if found else ""


def _elided(text: str) -> str:
    """Return *text* without its middle, if it is long."""
    half = (_MOST - 1) // 2
    return text if len(text) <= _MOST else f"{text[:half]}…{text[-half:]}"
