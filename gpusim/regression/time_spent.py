"""Where the time of a token's step went, by resource."""

from __future__ import annotations

from collections.abc import Iterable

from gpusim.core.clock import TICKS_PER_S
from gpusim.results.step_log import StepLog
from gpusim.runtime.attribution import CATEGORIES


def seconds_per_token(logs: Iterable[StepLog]) -> dict[str, float]:
    """Return the mean time of the step that made a token, in seconds by `CATEGORIES`; empty if there was none.

    Steps count once for every token they produced, as gaps between tokens do: this is what a token saw, not what it
    cost.
    """
    total = dict.fromkeys(CATEGORIES, 0.0)
    num_tokens = 0
    for log in logs:
        num_tokens += log.total("num_tokens")
        seen_ps = log.runs["num_tokens"].astype(float) @ log.runs["attribution_ps"]
        for name, ticks in zip(CATEGORIES, seen_ps.tolist(), strict=True):
            total[name] += ticks
    return {name: ticks / TICKS_PER_S / num_tokens for name, ticks in total.items()} if num_tokens else {}
