"""Where the gaps between tokens went: by category of the steps that made them, and waiting between steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gpusim.core.arrays import BoolArray, IntArray
from gpusim.core.clock import TICKS_PER_S
from gpusim.results.columns import Records
from gpusim.results.explained import grouped, mean_of, parts_of
from gpusim.results.request_log import RequestLog
from gpusim.results.step_log import StepLog
from gpusim.results.time_spent import TimeSpent
from gpusim.runtime.attribution import CATEGORIES

PAUSED: Final = "paused"
"""From the end of the step with the last token to the start of the step with this one, where another came between."""

JITTER: Final = "jitter"
"""By how much longer tokens are under way to their client than the tokens before them; below 0 if shorter."""


@dataclass(frozen=True, slots=True)
class _Gaps:
    """Gaps of one engine: those of all tokens of a step that had one in the step before are one row, (rows,) each."""

    spent: TimeSpent
    steps: IntArray
    """That ends the gap."""
    paused_ps: IntArray
    """Before that step started."""
    jitter_ps: IntArray
    """Of the delivery of that step's tokens, less that of the step before the gap."""
    weights: IntArray
    context: IntArray
    """Tokens that all decodes of the step attend to."""

    @property
    def ticks(self) -> IntArray:
        length: IntArray = self.paused_ps + self.jitter_ps + self.spent.ends[self.steps] - self.spent.starts[self.steps]
        return length


def explain_itl(requests: RequestLog, steps: Mapping[str, StepLog], keep: BoolArray) -> dict[str, Any]:
    """Say where the gaps went, of all tokens of the requests in *keep*, of the median and of the slow ones.

    Returns:
        By `GROUPS`: `count` of tokens, `mean_s`, `seconds` and `share` by category, `paused` and `jitter`, which add up to it;
        `beside_prefill`: `share` of the tokens whose step carried prompt tokens too, `mean_s` of their gaps and
        `alone_mean_s` of the others; `step`: means of `decodes`, `prefill_tokens` and `context_tokens`. Empty without gaps.
    """
    engines = [_gaps(requests, code, steps[name], keep) for code, name in enumerate(requests.engines)]
    engines = [gaps for gaps in engines if len(gaps.steps)]
    if not engines:
        return {}
    masks = grouped(_joined(engines, "ticks"), _joined(engines, "weights"))
    cuts = np.cumsum([len(gaps.steps) for gaps in engines])[:-1]
    return {name: _group(engines, np.split(mask, cuts)) for name, mask in masks.items()}


def _joined(engines: list[_Gaps], name: str) -> IntArray:
    joined: IntArray = np.concatenate([getattr(gaps, name) for gaps in engines])
    return joined


def _group(engines: list[_Gaps], masks: list[BoolArray]) -> dict[str, Any]:
    spent, paused, jitter = np.zeros(len(CATEGORIES)), 0.0, 0.0
    columns: list[tuple[IntArray, ...]] = []
    for gaps, mask in zip(engines, masks, strict=True):
        at, weights = gaps.steps[mask], gaps.weights[mask]
        spent += gaps.spent.of_steps(at, weights.astype(np.float64))
        paused += float(gaps.paused_ps[mask] @ weights.astype(np.float64))
        jitter += float(gaps.jitter_ps[mask] @ weights.astype(np.float64))
        counts = [gaps.spent.count(name)[at] for name in ("num_decodes", "num_prefill_tokens")]
        columns.append((weights, gaps.ticks[mask], *counts, gaps.context[mask]))
    weights, ticks, decodes, prefill, context = (np.concatenate(column) for column in zip(*columns, strict=True))
    beside = prefill > 0
    seconds = ticks / TICKS_PER_S
    return {
        **parts_of({**dict(zip(CATEGORIES, spent, strict=True)), PAUSED: paused, JITTER: jitter}, int(weights.sum())),
        "beside_prefill": {
            "share": mean_of(beside.astype(np.int64), weights),
            "mean_s": mean_of(seconds[beside], weights[beside]),
            "alone_mean_s": mean_of(seconds[~beside], weights[~beside]),
        },
        "step": {
            "decodes": mean_of(decodes, weights),
            "prefill_tokens": mean_of(prefill, weights),
            "context_tokens": mean_of(context, weights),
        },
    }


def _gaps(requests: RequestLog, code: int, log: StepLog, keep: BoolArray) -> _Gaps:
    every = requests.segments[requests.segments["engine"] == code]
    segments = every[keep[every["request"]]]
    spent = TimeSpent(log)
    coverage = _coverage(segments, np.ones(len(segments), np.int64), len(log))
    steps = np.flatnonzero(coverage)
    continues = np.flatnonzero(np.diff(segments["request"]) == 0) + 1
    resumed, before = segments["first_step"][continues], segments["last_step"][continues - 1]
    all_steps = np.concatenate([steps, resumed])
    steps_before = np.concatenate([steps - 1, before])
    paused_ps = spent.starts[all_steps] - spent.ends[steps_before]
    later = log.delivered - log.ends
    jitter_ps = later[all_steps] - later[steps_before]
    weights = np.concatenate([coverage[steps], np.ones(len(resumed), np.int64)])
    return _Gaps(spent, all_steps, paused_ps, jitter_ps, weights, _context(requests, every, len(log))[all_steps])


def _coverage(segments: Records, values: IntArray, num_steps: int) -> IntArray:
    """Add up *values* of the segments over the steps behind their first one (num_steps,)."""
    change = np.zeros(num_steps + 1, np.int64)
    np.add.at(change, segments["first_step"] + 1, values)
    np.subtract.at(change, segments["last_step"] + 1, values)
    return np.cumsum(change)[:-1]


def _context(requests: RequestLog, segments: Records, num_steps: int) -> IntArray:
    """Return the tokens that all decodes of each step attend to (num_steps,): prompts, and what was generated before."""
    lengths = segments["last_step"] - segments["first_step"] + 1
    after = np.cumsum(lengths)
    is_first = np.diff(segments["request"], prepend=-1) != 0
    own_begin = np.maximum.accumulate(np.where(is_first, after - lengths, 0))
    generated = after - lengths - own_begin
    at_first = requests.rows["prompt_tokens"][segments["request"]] + generated - segments["first_step"]
    number = _coverage(segments, np.ones(len(segments), np.int64), num_steps)
    return _coverage(segments, at_first, num_steps) + number * np.arange(num_steps)
