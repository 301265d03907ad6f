"""The slowest tokens of a run, each with the reason, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from gpusim.explain.sentences import PARTS
from gpusim.report.numbers import SCALES, digits, time_unit
from gpusim.report.page import heading, table
from gpusim.results.result import Result
from gpusim.results.slowest import SlowFirst, SlowGap, slowest_firsts, slowest_gaps
from gpusim.spelling import counted

_NUMBER: Final = 5
"""First tokens shown; they have fewer reasons than gaps."""
_FOREIGN: Final = ("waiting", "transfer")
_FELT: Final = 0.05
"""Shares of the time below are left out."""


def slowest_tables(result: Result) -> list[str]:
    """Return the longest waits of *result* for a first token, and the longest gaps before others."""
    several = len(result.record.steps) > 1
    firsts = [_first(first, several=several) for first in slowest_firsts(result.record, _NUMBER)]
    gaps = [_gap(gap, several=several) for gap in slowest_gaps(result.record)]
    parts = [heading(3, "Slowest first tokens"), table(firsts, {}, {"engine", "reason"}, stacks=True)] if firsts else []
    return parts + (
        [heading(3, "Slowest tokens after the first"), table(gaps, {}, {"engine", "reason"}, stacks=True)]
        if gaps
        else []
    )


def gap_reason(gap: SlowGap) -> str:
    """Say why the token behind *gap* was late."""
    prompts = counted(gap.num_prefill_tokens, "prompt token", thousands=",")
    decoding = counted(gap.num_decodes, "decoding sequence")
    passed = counted(gap.num_steps - 1, "step")
    meanwhile = f"{passed}{f' with {prompts}' if gap.num_prefill_tokens else ''} went by"
    if gap.is_preempted:
        what = f"preempted for want of KV blocks: {meanwhile} without it"
    elif gap.num_steps > 1:
        what = f"prompts came first: {meanwhile}"
    elif gap.num_prefill_tokens:
        what = f"its step had {prompts} beside {decoding}"
    else:
        what = f"a step of {decoding}, without prompts"
    return f"{what}; {', '.join(_shares(gap))} of the time"


def first_reason(first: SlowFirst) -> str:
    """Say where the time to a first token went."""
    cached = f", {first.cached_tokens:,} of them cached" if first.cached_tokens else ""
    prompt = counted(first.prompt_tokens, "token", thousands=",")
    later = f"{_time(first.ttft_s - first.queue_s)} from its first step on (prompt of {prompt}{cached})"
    return f"{_time(first.queue_s)} in the queue, then {later}" if first.queue_s else f"no queue; {later}"


def _shares(gap: SlowGap) -> Iterator[str]:
    """Yield what took most of the time, and what the engine waited for if that is a good part of it."""
    most, *others = gap.shares.items()
    for category, share in [most, *(each for each in others if each[0] in _FOREIGN and each[1] > _FELT)]:
        yield f"{PARTS[category]} {digits(share, 100)} %"


def _time(value_s: float) -> str:
    unit = time_unit([value_s])
    return f"{digits(value_s, SCALES[unit])} {unit}"


def _gap(gap: SlowGap, *, several: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"gap ms": digits(gap.gap_s, 1e3), "at s": digits(gap.end_s), "request": gap.request}
    row |= {"engine": gap.engine} if several else {}
    return row | {"tokens that waited": gap.num_tokens, "reason": gap_reason(gap)}


def _first(first: SlowFirst, *, several: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"TTFT ms": digits(first.ttft_s, 1e3), "arrived at s": digits(first.arrival_s)}
    row |= {"request": first.request} | ({"engine": first.engine} if several else {})
    return row | {"reason": first_reason(first)}
