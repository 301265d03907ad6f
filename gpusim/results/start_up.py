"""Whether the slowest first tokens are of the start, when many requests come at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from gpusim.core.arrays import BoolArray
from gpusim.results.columns import seconds_array
from gpusim.results.request_log import RequestLog
from gpusim.results.step_log import StepLog
from gpusim.results.tokens import token_times

MIN_REQUESTS: Final = 100
"""Others than those of the start, below which their 99th percentile is none."""
FACTOR: Final = 2.0
"""By how much the start must raise the 99th percentile to be worth a word."""


@dataclass(frozen=True, slots=True)
class StartUp:
    """The 99th percentile of TTFT with and without the requests that came first, all at once."""

    number: int
    """Of those that came first."""
    with_s: float
    without_s: float

    @property
    def is_sure(self) -> bool:
        """Whether the percentile is of the start."""
        return self.with_s > FACTOR * self.without_s

    def __str__(self) -> str:
        return (
            f"the {self.number} requests that come at once at the start make the p99 of TTFT {self.with_s:.3g} s; of the others "
            f"it is {self.without_s:.3g} s. State measure.warmup to leave out the start"
        )


def start_up(requests: RequestLog, steps: Mapping[str, StepLog], which: BoolArray) -> StartUp | None:
    """Measure what the start does to TTFT; None where requests come one by one, or too few come later.

    Args:
        requests: Every request submitted.
        steps: The step log of each engine.
        which: The measured requests of one stream (num_requests,).
    """
    served = which & requests.has_status("finished")
    if not served.any():
        return None
    arrivals = requests.rows["arrival_ps"][served]
    ttft_s = seconds_array(token_times(requests, steps).first_ps[served] - arrivals)
    is_first = arrivals == arrivals.min()
    number = int(is_first.sum())
    if number < 2 or len(arrivals) - number < MIN_REQUESTS:
        return None
    with_s, without_s = (float(np.quantile(each, 0.99, method="inverted_cdf")) for each in (ttft_s, ttft_s[~is_first]))
    return StartUp(number, with_s, without_s)
