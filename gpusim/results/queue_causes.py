"""What those wait for who are not admitted to a step: the limit that its scheduler came up against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gpusim.core.arrays import BoolArray, IntArray
from gpusim.results.columns import Records
from gpusim.results.step_log import StepLog

BUDGET: Final = 0
SEATS: Final = 1
BLOCKS: Final = 2
LIMITS: Final = ("token_budget", "seats", "kv_blocks")
"""Tokens of a step (`max_num_batched_tokens`), requests that run (`max_num_seqs`), blocks of KV."""


@dataclass(frozen=True, slots=True)
class Turns:
    """Stretches of steps at whose start requests are admitted, and no later: single steps, or batches where they are static."""

    starts: IntArray
    """(turns,) Ticks."""
    ends: IntArray
    fixed: IntArray
    """When it was decided who is admitted: at the start, or a step before where steps are in flight."""
    limits: IntArray
    """What is used up, by position in `LIMITS`, where one is: whoever waits from the start of the turn on waits for it."""


def turns_of(log: StepLog, rows: Records, last_steps: IntArray, serving: Mapping[str, Any]) -> Turns:
    """Return the turns of an engine's steps.

    A scheduler admits until tokens, seats or blocks are used up for the first that waits. Of a step the log holds how many
    tokens it computes, and, as whoever runs gets a token in it unless tokens are used up, how many run. If neither is
    what is used up, blocks are.

    Args:
        log: Of the engine.
        rows: Its requests that were scheduled, of dtype `REQUEST`.
        last_steps: In which those that are finished got their last token.
        serving: Of the engine, as the resolved scenario states it.
    """
    starts, ends = log.starts, log.ends
    finished = np.bincount(last_steps, minlength=len(log))
    match serving["scheduler"]:
        case "static":
            return _batches(log, rows, finished, serving)
        case "vllm-v0":
            limits = _prompts_apart(log, rows, finished, serving)
        case "orca":
            limits = np.where(_each(log, "num_tokens") >= serving["max_num_seqs"], SEATS, BLOCKS)
        case _:
            in_time = _decided_before(log, rows, finished, serving)
            # Who is over holds a seat in the step that was fixed before.
            leaving = np.where(in_time, np.roll(finished, 1), 0)
            fixed = np.where(in_time, np.roll(starts, 1), starts)
            return Turns(starts, ends, fixed, _together(log, leaving, serving))
    return Turns(starts, ends, starts, limits)


def _each(log: StepLog, name: str) -> IntArray:
    """Return a count of each step (steps,)."""
    counts: IntArray = np.repeat(log.runs[name].astype(np.int64), log.run_lengths)
    return counts


def _decided_before(log: StepLog, rows: Records, finished: IntArray, serving: Mapping[str, Any]) -> BoolArray:
    """Say of which steps the batch was fixed when the step before started (steps,).

    Where all who ran are over by then, that is so only if others were there already and had seats beside them.
    """
    if not serving["async_scheduling"]:
        return np.zeros(len(log), bool)
    starts = log.starts
    before = np.roll(starts, 1)
    came = np.searchsorted(np.sort(rows["scheduled_ps"]), starts)
    is_alone = came == np.cumsum(finished) - finished
    was_there = np.zeros(len(log), bool)
    begun = np.searchsorted(starts, rows["scheduled_ps"])
    was_there[begun[rows["arrival_ps"] <= before[begun]]] = True
    has_seats = np.roll(finished, 1) < serving["max_num_seqs"]
    in_time: BoolArray = (starts == np.roll(log.ends, 1)) & (~is_alone | (was_there & has_seats))
    in_time[0] = False
    return in_time


def _together(log: StepLog, leaving: IntArray, serving: Mapping[str, Any]) -> IntArray:
    """Of steps of prompts and decodes together, up to a budget."""
    is_full = _each(log, "num_decodes") + _each(log, "num_prefill_tokens") >= serving["max_num_batched_tokens"]
    running = _each(log, "num_tokens") + leaving
    return np.where(is_full, BUDGET, np.where(running >= serving["max_num_seqs"], SEATS, BLOCKS))


def _prompts_apart(log: StepLog, rows: Records, finished: IntArray, serving: Mapping[str, Any]) -> IntArray:
    """Of steps of whole prompts, in which decodes pause, and others of decodes alone."""
    tokens, prompts = _each(log, "num_tokens"), _each(log, "num_prefill_tokens")
    decodes = np.flatnonzero(prompts == 0)
    steps = np.arange(len(log))
    last = np.searchsorted(decodes, steps, side="right") - 1
    since = np.where(last >= 0, decodes[np.maximum(last, 0)], 0) if len(decodes) else np.zeros_like(steps)
    came, went = np.cumsum(tokens) - tokens, np.cumsum(finished) - finished
    # Those of the last step of decodes, and of the prompts after it, but for those who were over.
    running = came[steps] + tokens - came[since] - (went[steps] - went[since])
    coming = rows[np.lexsort((rows["index"], rows["arrival_ps"], rows["scheduled_ps"]))]
    following = np.searchsorted(coming["scheduled_ps"], log.starts, side="right")
    first = coming["prompt_tokens"][np.minimum(following, len(rows) - 1)]
    is_full = (prompts > 0) & (prompts + first > serving["max_num_batched_tokens"])
    return np.where(is_full, BUDGET, np.where(running >= serving["max_num_seqs"], SEATS, BLOCKS))


def _batches(log: StepLog, rows: Records, finished: IntArray, serving: Mapping[str, Any]) -> Turns:
    """Of batches that take nobody in before all of them are over."""
    prompts = _each(log, "num_prefill_tokens")
    came = np.searchsorted(np.sort(rows["scheduled_ps"]), log.starts)
    is_over = came == np.cumsum(finished) - finished
    # All prompts come first, all but the last step of them full; of one token an output is over with its prompt.
    goes_on = (prompts[:-1] > 0) & ~(is_over[1:] & (prompts[:-1] < serving["max_num_batched_tokens"]))
    begins = prompts > 0
    begins[1:] &= ~goes_on
    first = np.flatnonzero(begins)
    starts, ends = log.starts[first], log.ends[np.append(first[1:] - 1, len(log) - 1)]
    numbers = np.bincount(np.searchsorted(starts, rows["scheduled_ps"], side="right") - 1, minlength=len(first))
    return Turns(starts, ends, starts, np.where(numbers >= serving["max_num_seqs"], SEATS, BLOCKS))
