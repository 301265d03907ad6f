"""The resources that were busiest, in one line: like ones of several GPUs as one, none that did nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from gpusim.spelling import NUMBERS

_LISTED: Final = 6
"""Groups of resources listed, besides the busiest of each kind."""
_ALIKE: Final = 0.01
"""Busy fractions that differ by no more than this are alike."""
_SHOWN: Final = 0.0005
"""Less than this would be written as 0.0 %."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Resources with names that differ in numbers only, about as busy."""

    names: tuple[str, ...]
    least: float
    most: float

    def __str__(self) -> str:
        low, high = f"{self.least * 100:.1f}", f"{self.most * 100:.1f}"
        return f"{_folded(self.names)} {high if low == high else f'{low} to {high}'} %"


def busiest(utilisation: Mapping[str, float]) -> str:
    """Return a line with the busiest resources of *utilisation*, busy fractions by name; empty where none was busy.

    The busiest processors, memory and link are always among them.
    """
    groups = sorted(_groups(utilisation), key=lambda group: -group.most)
    kinds = [_kind(group.names[0]) for group in groups]
    firsts = {kinds.index(kind) for kind in kinds}
    listed = [group for place, group in enumerate(groups) if place < _LISTED or place in firsts]
    if not listed:
        return ""
    left = sum(len(group.names) for group in groups) - sum(len(group.names) for group in listed)
    return f"busiest: {', '.join(map(str, listed))}" + (f" (and {left} more)" if left else "")


def _kind(name: str) -> str:
    """Return what a resource is: compute, memory, or a link."""
    return "link" if "->" in name else name.rpartition(".")[2]


def _groups(utilisation: Mapping[str, float]) -> list[_Group]:
    busy = [(NUMBERS.sub("*", name), share, name) for name, share in utilisation.items() if share >= _SHOWN]
    groups: list[_Group] = []
    for _, alike in groupby(sorted(busy, key=lambda entry: (entry[0], -entry[1])), key=lambda entry: entry[0]):
        shares: dict[str, float] = {}
        for _, share, name in alike:
            if shares and share < max(shares.values()) - _ALIKE:
                groups.append(_group(shares))
                shares = {}
            shares[name] = share
        groups.append(_group(shares))
    return groups


def _group(shares: Mapping[str, float]) -> _Group:
    return _Group(tuple(shares), min(shares.values()), max(shares.values()))


def _folded(names: Sequence[str]) -> str:
    """Write *names*, which differ in numbers only, as one: ``gpu0-3.compute``."""
    columns = zip(*(map(int, NUMBERS.findall(name)) for name in names), strict=True)
    numbers = iter([_ranges(sorted(set(column))) for column in columns])
    return NUMBERS.sub(lambda _: next(numbers), names[0])


def _ranges(numbers: Sequence[int]) -> str:
    """Write ascending *numbers* with successive ones as a range: ``0-3,6``."""
    runs = groupby(enumerate(numbers), key=lambda entry: entry[1] - entry[0])
    ends = [[number for _, number in run] for _, run in runs]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in ends)
