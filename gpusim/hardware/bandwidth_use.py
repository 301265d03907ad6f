"""How much of their peak bandwidth memories and links used, over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.core.clock import TICKS_PER_S
from gpusim.hardware.memory import MemoryBank
from gpusim.hardware.over_time import BINS, OverTime


class Moved(NamedTuple):
    """What memories or links moved over time."""

    over_time: OverTime
    """Of all of them together."""
    peak: float
    """Of each, as amounts of it per second."""
    number: int
    """How many they are."""


@dataclass(frozen=True, slots=True)
class BandwidthUse:
    """Of each kind of memory or link, bytes moved / (peak bandwidth x time), in the mean of those that moved any.

    Both directions of a link count as one each. Bytes are spread evenly: those of a flow over each time in which
    its speed is constant; those of kernels over each step or, where it is played kernel by kernel, over each time in
    it in which flows take the same from their memory; those of collectives in steps that are not played over the step.
    """

    edges_ps: IntArray = field(default_factory=lambda: np.zeros(1, np.int64))
    """(bins + 1,) Bins of equal length from tick 0 on, of which the last ends with the run."""
    parts: Mapping[str, FloatArray] = field(default_factory=dict)
    """(bins,) of each kind."""

    @classmethod
    def of(cls, now: int, moved: Mapping[str, Sequence[Moved]]) -> BandwidthUse:
        """Make it, from tick 0 to *now*, of what was moved on each kind of memory or link."""
        moved = {kind: parts for kind, parts in moved.items() if parts}
        if not moved or not now:
            return cls()
        width = max(part.over_time.bin_ticks for parts in moved.values() for part in parts)
        while width * BINS < now:
            width *= 2
        edges = np.append(np.arange(0, now, width), now)
        length_s = np.diff(edges) / TICKS_PER_S
        used = {}
        for kind, parts in moved.items():
            busy_s = sum((part.over_time.widened(width) / part.peak for part in parts), start=np.zeros(BINS))
            used[kind] = busy_s[: len(length_s)] / (sum(part.number for part in parts) * length_s)
        return cls(edges, used)


def of_memories(banks: Iterable[MemoryBank]) -> list[Moved]:
    """Return what each of *banks* moved that moved anything."""
    return [
        Moved(bank.over_time(), bank.peak_bandwidth, 1) for bank in banks if bank.moved_bytes + bank.paced_bytes > 0.0
    ]
