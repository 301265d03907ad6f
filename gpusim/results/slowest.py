"""The slowest tokens: the longest gaps between tokens and the longest waits for a first one, with what happened then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gpusim.core.clock import seconds
from gpusim.results.columns import Records
from gpusim.results.step_log import StepLog
from gpusim.results.summary import RunRecord
from gpusim.results.tokens import token_times
from gpusim.runtime.attribution import CATEGORIES


@dataclass(frozen=True, slots=True)
class SlowGap:
    """A gap that one or more requests had at once."""

    engine: str
    request: int
    """Number of one of them in the workload."""
    num_tokens: int
    """How many waited for their next token."""
    end_s: float
    gap_s: float
    num_steps: int
    """Steps in the gap, the one that made the token included."""
    num_decodes: int
    """In the step that made the token."""
    num_prefill_tokens: int
    """In all steps of the gap."""
    shares: Mapping[str, float]
    """What the time of these steps went to, by `CATEGORIES`, largest first; in [0, 1]."""
    is_preempted: bool
    """The request had to give way to others."""


@dataclass(frozen=True, slots=True)
class SlowFirst:
    """A wait for a first token."""

    engine: str
    request: int
    """Its number in the workload."""
    arrival_s: float
    ttft_s: float
    queue_s: float
    """Of it, before the first step with a part of the request."""
    prompt_tokens: int
    cached_tokens: int
    """Of the prompt, those that were not computed again."""


def slowest_firsts(record: RunRecord, number: int = 5) -> list[SlowFirst]:
    """Return the *number* longest waits for a first token of all requests, measured or not, longest first."""
    rows, times = record.requests.rows, token_times(record.requests, record.steps)
    ttft = np.where(times.num_tokens > 0, times.first_ps - rows["arrival_ps"], -1)
    places = np.argsort(-ttft, kind="stable")[:number]
    return [
        SlowFirst(
            engine=record.requests.engines[row["engine"]],
            request=int(row["index"]),
            arrival_s=seconds(int(row["arrival_ps"])),
            ttft_s=seconds(int(wait)),
            queue_s=seconds(int(row["scheduled_ps"] - row["arrival_ps"])),
            prompt_tokens=int(row["prompt_tokens"]),
            cached_tokens=int(row["cached_tokens"]),
        )
        for row, wait in zip(rows[places], ttft[places], strict=True)
        if wait >= 0
    ]


def slowest_gaps(record: RunRecord, number: int = 10) -> list[SlowGap]:
    """Return the *number* longest gaps of all requests, measured or not, longest first; requests in one step share one."""
    found = [gap for code in range(len(record.requests.engines)) for gap in _of_engine(record, code, number)]
    return sorted(found, key=lambda gap: (-gap.gap_s, gap.end_s, gap.request))[:number]


def _of_engine(record: RunRecord, code: int, number: int) -> Iterator[SlowGap]:
    log = record.steps[record.requests.engines[code]]
    segments = record.requests.segments
    segments = segments[segments["engine"] == code]
    for segment, before, step, count in [*_within(segments, log, number), *_between(segments, log, number)]:
        request = int(record.requests.rows["index"][segments["request"][segment]])
        yield _gap(log, request, before, step, count)


def _within(segments: Records, log: StepLog, number: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield segment, step before, step and number of tokens of the longest gaps inside segments."""
    steps = len(log)
    changes = np.bincount(segments["first_step"] + 1, minlength=steps + 1)[: steps + 1]
    changes = changes - np.bincount(segments["last_step"] + 1, minlength=steps + 1)[: steps + 1]
    count = np.cumsum(changes)[:steps]
    gaps = np.diff(log.ends, prepend=0) * (count > 0)
    for step in np.argsort(-gaps, kind="stable")[:number].tolist():
        if count[step] > 0:
            inside = (segments["first_step"] < step) & (segments["last_step"] >= step)
            yield int(inside.argmax()), step - 1, step, int(count[step])


def _between(segments: Records, log: StepLog, number: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the same of the longest gaps between two segments of a request."""
    later = np.flatnonzero(np.diff(segments["request"]) == 0) + 1
    if not len(later):
        return
    pairs = np.column_stack((segments["last_step"][later - 1], segments["first_step"][later]))
    pairs, first, count = np.unique(pairs, axis=0, return_index=True, return_counts=True)
    gaps = log.ends[pairs[:, 1]] - log.ends[pairs[:, 0]]
    for place in np.argsort(-gaps, kind="stable")[:number].tolist():
        before, step = pairs[place].tolist()
        yield int(later[first[place]]), before, step, int(count[place])


def _gap(log: StepLog, request: int, before: int, step: int, count: int) -> SlowGap:
    of = np.searchsorted(log.runs["first_step"], np.arange(before + 1, step + 1), side="right") - 1
    runs = log.runs[of]
    spent = (runs["attribution_ps"] / log.run_lengths[of][:, None]).sum(axis=0)
    shares = dict(zip(CATEGORIES, (spent / max(spent.sum(), 1.0)).tolist(), strict=True))
    return SlowGap(
        engine=log.engine,
        request=request,
        num_tokens=count,
        end_s=seconds(int(log.ends[step])),
        gap_s=seconds(int(log.ends[step] - log.ends[before])),
        num_steps=step - before,
        num_decodes=int(runs["num_decodes"][-1]),
        num_prefill_tokens=int(runs["num_prefill_tokens"].sum()),
        shares=dict(sorted(shares.items(), key=lambda item: -item[1])),
        # Who is only passed over for prompts waits in steps in which nobody decodes.
        is_preempted=bool(runs["num_decodes"][:-1].any()),
    )
