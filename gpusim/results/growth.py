"""Whether requests piled up: whether more and more of them were in the system for as long as they came."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from gpusim.core.arrays import BoolArray, IntArray
from gpusim.core.clock import seconds
from gpusim.results.request_log import RequestLog
from gpusim.results.step_log import StepLog
from gpusim.results.tokens import token_times

MIN_REQUESTS: Final = 40
"""Fewer say nothing: most of their time the system fills."""
SURE: Final = 2.0
"""Standard deviations of the number that came and went by chance, beyond which it grew."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How many requests were in the system, from their arrival to their last token, while others still came."""

    before: float
    """In the second quarter of the time from the first to the last arrival, on average."""
    after: float
    """In the last quarter."""
    came: int
    """In the second half of that time."""
    went: int
    """Finished in the second half."""
    half_s: float
    """How long that is."""

    @property
    def is_sure(self) -> bool:
        """Whether the number grew by more than chance makes of arrivals and ends that are equally frequent.

        The difference of two Poisson numbers has their sum as variance; averages over quarters vary less than that.
        """
        return self.after - self.before > SURE * math.sqrt(self.came + self.went)

    def __str__(self) -> str:
        came, went = (_written(number / self.half_s) for number in (self.came, self.went))
        return (
            f"requests pile up: in the second half of the arrivals {came} /s came and {went} /s were finished; "
            f"{self.before:.0f} were in the system in the second quarter, {self.after:.0f} in the last. Latencies depend on "
            "how long that lasts: lower the rate, serve on more GPUs, or simulate more requests to see whether it settles"
        )


def _written(rate: float) -> str:
    return f"{rate:.3g}" if rate < 1000 else f"{rate:.0f}"


def growth(requests: RequestLog, steps: Mapping[str, StepLog], which: BoolArray) -> Growth | None:
    """Measure how the number of requests in the system grew.

    None where there are too few, or all come in one burst: before the first is over, they say nothing of how many can be served.
    That must be by the middle of the arrivals; mean E2E is no measure of how long it takes, since it grows with the queue.

    Args:
        requests: Every request submitted.
        steps: The step log of each engine.
        which: The requests of one stream (num_requests,); those that were rejected do not count.
    """
    served = which & ~requests.has_status("rejected")
    arrivals = requests.rows["arrival_ps"][served]
    if len(arrivals) < MIN_REQUESTS:
        return None
    ends = token_times(requests, steps).last_ps[served & requests.has_status("finished")]
    start, last = int(arrivals.min()), int(arrivals.max())
    half, quarter = start + (last - start) // 2, (last - start) // 4
    if not quarter or not (ends <= half).any():
        return None
    return Growth(
        before=_mean_present(arrivals, ends, start + quarter, half),
        after=_mean_present(arrivals, ends, last - quarter, last),
        came=int((arrivals > half).sum()),
        went=int(((ends > half) & (ends <= last)).sum()),
        half_s=seconds(last - half),
    )


def _mean_present(arrivals: IntArray, ends: IntArray, begin: int, end: int) -> float:
    """Return the mean number of requests that had come and were not over, between two ticks."""
    came, went = (np.clip(end - ticks, 0, end - begin).sum(dtype=np.float64) for ticks in (arrivals, ends))
    return float(came - went) / (end - begin)
