"""What requests waited for in the queue, as far as the logs say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from gpusim.core.clock import FloatArray, IntArray
from gpusim.results.columns import Records
from gpusim.results.explained import parts_of
from gpusim.results.request_log import STATUSES, RequestLog
from gpusim.results.step_log import StepLog
from gpusim.results.time_spent import BoolArray
from gpusim.results.tokens import TokenTimes

CAUSES: Final = ("step_under_way", "token_budget", "seats", "other")
"""The end of the step in which they arrived; steps with as many tokens as the budget has; steps with `max_num_seqs` requests;
other: KV blocks, the policy's order or steps in flight, of which the logs do not say."""
_BUDGETED: Final = ("continuous", "vllm-v1", "sarathi")
"""Schedulers that fill every step up to the token budget."""


def explain_queue(
    requests: RequestLog,
    steps: Mapping[str, StepLog],
    keep: BoolArray,
    times: TokenTimes,
    serving: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Say what the requests in *keep* waited for before their first step.

    Args:
        requests: All of them.
        steps: Of each engine.
        keep: Which count (num_requests,).
        times: Of all requests.
        serving: Of each engine, as the resolved scenario states it.

    Returns:
        `count`, `mean_s`, `seconds` and `share` by `CAUSES`, which add up to it; empty without requests.
    """
    keep = keep & (requests.rows["scheduled_ps"] >= 0)
    if not keep.any():
        return {}
    total = np.zeros(len(CAUSES))
    for code, name in enumerate(requests.engines):
        own = requests.rows["engine"] == code
        if (keep & own).any():
            busy = _causes(requests.rows[own], times.last_ps[own] - requests.api_ps[own], steps[name], serving[name])
            total += _waits(requests.rows[keep & own], steps[name], busy)
    return parts_of(dict(zip(CAUSES, total, strict=True)), int(keep.sum()))


def _causes(rows: Records, left_ps: IntArray, log: StepLog, serving: Mapping[str, Any]) -> Sequence[BoolArray]:
    """Say of each step whether its budget was full, and whether its seats were (steps,)."""
    starts = log.starts
    run_of = np.repeat(np.arange(len(log.runs)), log.run_lengths)
    num_tokens = (log.runs["num_decodes"] + log.runs["num_prefill_tokens"])[run_of]
    has_budget = serving["scheduler"] in _BUDGETED
    is_spent = has_budget & (num_tokens >= serving["max_num_batched_tokens"])
    came, went = (
        np.sort(rows["scheduled_ps"][rows["scheduled_ps"] >= 0]),
        np.sort(left_ps[rows["status"] == STATUSES.index("finished")]),
    )
    running = np.searchsorted(came, starts, side="right") - np.searchsorted(went, starts, side="right")
    return is_spent, ~is_spent & (running >= serving["max_num_seqs"])


def _waits(rows: Records, log: StepLog, busy: Sequence[BoolArray]) -> FloatArray:
    """Return the ticks that *rows* waited, all together, by `CAUSES`."""
    starts, ends = log.starts, log.ends
    arrival, scheduled = rows["arrival_ps"], rows["scheduled_ps"]
    current = np.searchsorted(starts, arrival, side="right") - 1
    free = np.where(current >= 0, np.clip(ends[np.maximum(current, 0)], arrival, scheduled), arrival)
    first, behind = current + 1, np.searchsorted(starts, scheduled)
    found = [float((free - arrival).sum())]
    for counts in busy:
        before = np.concatenate([[0], np.cumsum((ends - starts) * counts)])
        found.append(float((before[np.maximum(behind, first)] - before[first]).sum()))
    return np.array([*found, float((scheduled - arrival).sum()) - sum(found)])
