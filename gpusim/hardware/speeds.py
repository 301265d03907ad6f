"""Speeds: what max-min fairness makes of flows on the resources of a fabric, remembered."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.hardware.flow import Ask
from gpusim.hardware.max_min import Demand, max_min_rates

_KEPT: Final = 1024
"""Cases remembered: a load that repeats meets the same ones again and again."""
_SAME: Final = 1e-12
"""Relative difference of two speeds that is rounding in the solver, not sharing."""

Elastic: TypeAlias = tuple[tuple[int, int], ...]
"""Memory banks and the number of kernels on each."""


class Speeds:
    """Solves for the speeds of flows that share resources.

    Args:
        capacity: Bytes/s of each resource, shape (num_resources,).
    """

    def __init__(self, capacity: FloatArray) -> None:
        self._capacity = capacity
        self.of = lru_cache(_KEPT)(self._of)
        """See `_of`."""

    def _of(self, asks: tuple[Ask, ...], elastic: Elastic) -> list[float]:
        """Return the speed of each of the flows that ask, beside the kernels of *elastic*; do not change the list."""
        index = np.concatenate([ask.loads.index for ask in asks])
        resources, places = np.unique(index, return_inverse=True)
        ends = np.cumsum([len(ask.loads.resources) for ask in asks])
        demands = [
            Demand(place, ask.loads.fractions, ask.rate_unit * ask.ideal_speed)
            for ask, place in zip(asks, np.split(places, ends[:-1]), strict=True)
        ]
        num_elastic = np.zeros(len(resources), dtype=np.int64)
        for bank, number in elastic:
            num_elastic[np.searchsorted(resources, bank)] = number
        rates = max_min_rates(demands, self._capacity[resources], num_elastic).tolist()
        return [_snapped(rate / ask.rate_unit, ask.ideal_speed) for ask, rate in zip(asks, rates, strict=True)]


def _snapped(speed: float, ideal: float) -> float:
    """Return *speed*, or the ideal speed where the two differ by rounding only."""
    return ideal if speed >= ideal * (1.0 - _SAME) else speed
