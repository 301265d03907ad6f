"""What requests waited for in the queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from gpusim.core.arrays import BoolArray, FloatArray, IntArray
from gpusim.results.columns import Records
from gpusim.results.explained import parts_of
from gpusim.results.queue_causes import BUDGET, LIMITS, Turns, turns_of
from gpusim.results.request_log import STATUSES, RequestLog
from gpusim.results.step_log import StepLog

_REJECTED: Final = STATUSES.index("rejected")
CAUSES: Final = ("step_under_way", "step_in_flight", *LIMITS, "policy")
"""The end of the step, or static batch, in which they arrived; the step after it, where its batch was fixed already; a limit of
the scheduler; policy: that others who came later went first."""


def explain_queue(
    requests: RequestLog, steps: Mapping[str, StepLog], keep: BoolArray, serving: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Say what the requests in *keep* waited for before their first step.

    Args:
        requests: All of them.
        steps: Of each engine.
        keep: Which count (num_requests,).
        serving: Of each engine, as the resolved scenario states it.

    Returns:
        `count`, `mean_s`, `seconds` and `share` by `CAUSES`, which add up to it; empty without requests.
    """
    started = requests.rows["scheduled_ps"] >= 0
    if not (keep & started).any():
        return {}
    total = np.zeros(len(CAUSES))
    for code, name in enumerate(requests.engines):
        here = requests.rows["engine"] == code
        if (keep & started & here).any():
            rows = requests.rows[started & here]
            turns = turns_of(steps[name], rows, _last_steps(requests, code), serving[name])
            in_turn = _in_order_of_arrival(requests.rows[here])[(started & keep)[here]]
            total += _waits(requests.rows[keep & started & here], in_turn, turns)
    return parts_of(dict(zip(CAUSES, total, strict=True)), int((keep & started).sum()))


def _last_steps(requests: RequestLog, code: int) -> IntArray:
    """Return in which step of an engine each of its requests that are finished got its last token."""
    segments = requests.segments
    is_last = np.diff(segments["request"], append=-1) != 0
    is_over = requests.has_status("finished")[segments["request"]] & (segments["engine"] == code)
    steps: IntArray = segments["last_step"][is_last & is_over]
    return steps


def _in_order_of_arrival(rows: Records) -> IntArray:
    """Return when each of an engine's requests would have started, had each start been that of the one that came first.

    The first start is that of the first arrival, and so on; 2⁶² for who comes after as many as started.
    """
    order = np.lexsort((rows["index"], rows["arrival_ps"]))
    order = order[rows["status"][order] != _REJECTED]
    starts = np.sort(rows["scheduled_ps"][rows["scheduled_ps"] >= 0])
    ticks = np.full(len(rows), 1 << 62)
    ticks[order[: len(starts)]] = starts
    return ticks


def _waits(rows: Records, in_turn: IntArray, turns: Turns) -> FloatArray:
    """Return the ticks that *rows* waited, all together, by `CAUSES`.

    Args:
        rows: Of one engine.
        in_turn: When each would have started in the order of arrival.
        turns: Of the engine.
    """
    arrival, scheduled = rows["arrival_ps"], rows["scheduled_ps"]
    until = np.minimum(in_turn, scheduled)
    later = np.searchsorted(turns.starts, arrival, side="right")
    first = np.searchsorted(turns.fixed, arrival)
    own = np.searchsorted(turns.starts, until, side="right") - 1
    length = turns.ends - turns.starts
    in_flight = _between(length, later, np.minimum(first, own))
    limited = [_between(length * (turns.limits == limit), first, own) for limit in range(len(LIMITS))]
    # The prompts of a static batch start one after the other.
    limited[BUDGET] += float((until - turns.starts[own]).sum())
    policy = float((scheduled - until).sum())
    under_way = float((scheduled - arrival).sum()) - in_flight - sum(limited) - policy
    return np.array([under_way, in_flight, *limited, policy])


def _between(ticks: IntArray, first: IntArray, behind: IntArray) -> float:
    """Add up *ticks* from *first* to before *behind*, of all rows together."""
    before = np.concatenate([[0], np.cumsum(ticks)])
    return float((before[np.maximum(behind, first)] - before[first]).sum())
