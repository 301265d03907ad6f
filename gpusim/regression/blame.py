"""Which resource is to blame for what moved: means of where the time of tokens went, before and now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from gpusim.regression.baseline import Baseline
from gpusim.regression.comparison import Move
from gpusim.results.quantity import shown

_TITLES: Final = {
    "itl": "a gap between tokens",
    "itl.slow": "one of the slowest hundredth of gaps",
    "ttft": "a first token",
    "ttft.slow": "one of the slowest hundredth of first tokens",
}
_MOVED_BY: Final = {
    "itl": ("itl.", "tpot.", "e2e."),
    "itl.slow": ("itl.p99",),
    "ttft": ("ttft.", "queue.", "e2e."),
    "ttft.slow": ("ttft.p99", "queue.p99"),
}
"""Beginnings of the metrics that each of them explains."""
_DIGITS: Final = 4
_NAMED: Final = 3
"""Parts that are named at most: the one to blame, and those that moved at least a tenth as much as any."""
_UNMOVED: Final = 1e-3
"""Change of a mean, as part of it, that explains nothing."""

Part = tuple[str, float, float]
"""What time went to, and seconds before and now."""


def blame(before: Baseline, now: Baseline, found: Sequence[Move]) -> Iterator[str]:
    """Name, for gaps and first tokens as far as they moved, what did most for it, and what else moved."""
    groups = [group for group, names in _MOVED_BY.items() if any(move.name.startswith(names) for move in found)]
    for group in groups or ["itl", "ttft"]:
        parts = parts_by_change(before.spent_s.get(group, {}), now.spent_s.get(group, {}))
        if parts:
            yield from _lines(_TITLES[group], parts)


def parts_by_change(before: Mapping[str, float], now: Mapping[str, float]) -> list[Part]:
    """Return the parts that changed: first the one that did most for the sum to move as it did, then by change."""
    parts = [(name, before.get(name, 0.0), now.get(name, 0.0)) for name in dict.fromkeys([*before, *now])]
    parts.sort(key=lambda part: -abs(_change(part)))
    if not parts or abs(_change(parts[0])) <= _UNMOVED * max(sum(before.values()), sum(now.values())):
        return []
    first = (max if sum(now.values()) > sum(before.values()) else min)(parts, key=_change)
    smallest = 0.1 * abs(_change(parts[0]))
    return [first, *(part for part in parts if part is not first and abs(_change(part)) >= smallest)]


def _change(part: Part) -> float:
    return part[2] - part[1]


def _lines(title: str, parts: Sequence[Part]) -> Iterator[str]:
    first = parts[0]
    why = f"{first[0]} to blame" if _change(first) > 0 else f"mostly {first[0]}"
    yield f"{title}, {why}:"
    width = max(len(name) for name, _, _ in parts[:_NAMED])
    for name, was, is_now in parts[:_NAMED]:
        sign = "+" if is_now >= was else "-"
        change = f"{sign}{shown(abs(is_now - was), _DIGITS)}"
        yield f"    {name.ljust(width)}  {shown(was, _DIGITS)} -> {shown(is_now, _DIGITS)} ({change})"
