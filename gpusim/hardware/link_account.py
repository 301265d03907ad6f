"""LinkAccount: what the resources of a fabric have moved, and how long they were busy with it."""

from __future__ import annotations

from typing import Final

import numpy as np

from gpusim.core.clock import FloatArray
from gpusim.hardware.flow import Loads

_KEPT: Final = 256
"""Pieces of traffic counted before their loads are added up."""


class LinkAccount:
    """Bytes and busy seconds of each resource.

    The same traffic moves again and again, a collective in every layer of every step. So it is counted first, and its
    loads are added to those of the resources when somebody asks.

    Args:
        num_resources: Links and memory banks.
    """

    def __init__(self, num_resources: int) -> None:
        self._moved_bytes = np.zeros(num_resources)
        self._busy_s = np.zeros(num_resources)
        self._counted: dict[Loads, tuple[float, float]] = {}

    def add(self, loads: Loads, times: float, occupation: float) -> None:
        """Count *loads* moved *times*, each byte of it keeping a link busy for that of *occupation* bytes."""
        moved, occupied = self._counted.get(loads, (0.0, 0.0))
        self._counted[loads] = moved + times, occupied + times * occupation
        if len(self._counted) > _KEPT:
            self._add_up()

    def moved_bytes(self) -> FloatArray:
        """Return the bytes each resource has moved, shape (num_resources,)."""
        self._add_up()
        return self._moved_bytes

    def busy_s(self) -> FloatArray:
        """Return how long each would have needed at full rate for what kept it busy, shape (num_resources,)."""
        self._add_up()
        return self._busy_s

    def _add_up(self) -> None:
        for loads, (moved, occupied) in self._counted.items():
            self._moved_bytes[loads.index] += loads.amounts * moved
            self._busy_s[loads.index] += loads.idle_s * occupied
        self._counted.clear()
