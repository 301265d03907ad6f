"""Max-min fair rates of flows that share resources.

A rate vector is max-min fair if no flow can gain without one that has no more losing: every flow either runs at its
cap or has a bottleneck, a full resource on which no other flow has a larger rate (Bertsekas and Gallager, 1992, "Data
networks", section 6.5.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What one flow asks of its resources."""

    resources: IntArray
    """Indices of the resources it uses, each once."""
    fractions: FloatArray
    """Units it takes of each of `resources` per unit of its rate; at least 0, the largest is 1."""
    cap: float = math.inf
    """Rate it never exceeds."""


def max_min_rates(demands: Sequence[Demand], capacity: FloatArray, num_elastic: IntArray | None = None) -> FloatArray:
    """Return the max-min fair rate of each flow, by progressive filling.

    All rates rise together. A resource whose capacity is used up stops the flows on it; a flow at its cap stops alone.
    The result does not depend, to the last bit, on the order of *demands*.

    Args:
        demands: One per flow.
        capacity: Units/s each resource can give, shape (num_resources,).
        num_elastic: Users of each resource that are no flows, use it alone, have no cap and take a fair share of it,
            shape (num_resources,). None: nobody.
    """
    flow = np.repeat(np.arange(len(demands)), [len(demand.resources) for demand in demands])
    resource = np.concatenate([demand.resources for demand in demands])
    fraction = np.concatenate([demand.fractions for demand in demands])
    order = np.lexsort((fraction, resource))  # sums over a resource run in the order of their terms, not of the flows
    flow, resource, fraction = flow[order], resource[order], fraction[order]
    caps = np.array([demand.cap for demand in demands])
    elastic = np.zeros(len(capacity)) if num_elastic is None else num_elastic

    rates = np.zeros(len(demands))
    rising = np.ones(len(demands), dtype=bool)
    used = np.zeros(len(capacity))
    while rising.any():
        load = np.bincount(resource, weights=fraction * rising[flow], minlength=len(capacity))
        shared = load > 0.0
        limit = np.full(len(capacity), math.inf)
        limit[shared] = (capacity - used)[shared] / (load + elastic)[shared]
        level = min(limit.min(initial=math.inf), caps[rising].min())
        assert math.isfinite(level), "a flow without a resource needs a cap"
        stopped = rising & (caps <= level)
        stopped[flow[(limit <= level)[resource] & (fraction > 0.0)]] = True
        stopped &= rising
        rates[stopped] = level
        used += level * np.bincount(resource, weights=fraction * stopped[flow], minlength=len(capacity))
        rising &= ~stopped
    return rates
