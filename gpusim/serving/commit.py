"""Committing steps that were played: the log, the requests, the blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gpusim.core.clock import IntArray
from gpusim.serving.kv_cache import KvCache
from gpusim.serving.kv_channels import KvChannels
from gpusim.serving.outlook import Outlook, RunColumns
from gpusim.serving.request import Request
from gpusim.serving.roster import Roster


class RunLog(Protocol):
    """Where an engine commits its runs of steps."""

    def extend(
        self,
        starts: IntArray,
        lengths: IntArray,
        ends: IntArray,
        *,
        num_decodes: IntArray,
        num_prefill_tokens: IntArray,
        num_tokens: IntArray,
        attribution_ps: IntArray,
        continues: bool = False,
    ) -> int:
        """Add runs of steps; return the number of the first step."""
        ...


@dataclass(frozen=True, slots=True)
class Played:
    """Steps of an outlook as they went."""

    starts: IntArray
    """(runs,) Tick at which each run started; may go on beyond the steps."""
    ends: IntArray
    """(steps,) Tick at which each step ended."""
    attribution_ps: IntArray
    """(steps, categories), or of a single run (1, categories)."""
    bound_ps: int
    """What all of them take at least."""


@dataclass(frozen=True, slots=True)
class Advance:
    """Steps that were planned and played."""

    outlook: Outlook
    runs: RunColumns
    roster: Roster
    """As they leave it."""
    played: Played
    read: Sequence[IntArray] | None
    """(steps, channels) of each kind of KV: bytes that each reads on each memory channel, if that matters."""
    is_by_kernel: bool = False

    @property
    def last_start(self) -> int:
        """Tick at which the last step started."""
        last = len(self.played.ends) - 1
        run = int(np.searchsorted(self.runs.first, last, side="right")) - 1
        tick = self.played.starts[run] if self.runs.first[run] == last else self.played.ends[last - 1]
        return int(tick)


class Commit:
    """What an engine keeps of the steps it planned.

    Args:
        kv: Its blocks.
        channels: Where they lie; None if memory has no channels.
        log: Gets every run of steps.
    """

    def __init__(self, kv: KvCache, channels: KvChannels | None, log: RunLog) -> None:
        self._kv = kv
        self._channels = channels
        self._log = log
        self.bound_ps = 0
        """What all steps take at least."""
        self.queried_tokens = self.hit_tokens = 0
        """Prompt tokens of requests that were scheduled for the first time, and those whose KV was there already."""
        self._pauses: list[int] = []
        """Steps in which nobody decoded who could have."""
        self._is_unchanged = False
        """Whether the last step leaves a batch that may simply go on."""

    def preempt(self, outlook: Outlook, now: int) -> None:
        """Take their blocks from those who left before *outlook* and whom it preempts, for its steps to use."""
        self._kv.release([(request, request.most_cached_tokens) for request in outlook.gone_before])
        self._kv.release(outlook.preempted)
        for request, cached in outlook.preempted:
            self._give_way(request, cached, outlook.first_step, now)

    def tenure(self, request: Request, until: int) -> list[tuple[int, int]]:
        """Return the segments of the tokens of a request since its admission, up to step *until*, included."""
        return request.tenure(until, self._pauses)

    def run(self, advance: Advance) -> list[tuple[int, Request]]:
        """Commit steps that were played; return who is finished, in order, each with the tick of its last token."""
        outlook, runs, roster, played = advance.outlook, advance.runs, advance.roster, advance.played
        steps = len(played.ends)
        finished = [(step, request) for step, request in outlook.finished if step < steps]
        self._write_log(outlook, runs, played)
        self._pauses += [outlook.first_step + step for step in outlook.pauses if step < steps]
        self.bound_ps += played.bound_ps
        self._admit(outlook, runs, played)
        gone = [(since, request) for final, since, request in outlook.gone if final < steps]
        self._kv.keep(steps, gone)
        if self._channels is not None and advance.read is not None:
            self._channels.keep(outlook, steps)
        left = [*outlook.gone_before, *(request for request, _ in outlook.preempted), *(request for _, request in gone)]
        _free_slots(left, roster)
        has_ended = bool(finished) and finished[-1][0] == steps - 1
        self._is_unchanged = not has_ended and outlook.is_steady[int(np.searchsorted(runs.first, steps)) - 1]
        return [self._finish(request, step, outlook, played) for step, request in finished]

    def _write_log(self, outlook: Outlook, runs: RunColumns, played: Played) -> None:
        """Log the runs; those that only go on with the batch of the one before are one with it."""
        steps = len(played.ends)
        num_runs = int(np.searchsorted(runs.first, steps))
        fresh = np.array(outlook.is_fresh[:num_runs])
        continues = self._is_unchanged and not fresh[0]
        fresh[0] = True
        rows = np.flatnonzero(fresh)
        first = runs.first[rows]
        self._log.extend(
            played.starts[rows],
            np.diff(first, append=steps),
            played.ends,
            num_decodes=runs.num_decodes[rows],
            num_prefill_tokens=runs.num_prefill_tokens[rows],
            num_tokens=runs.num_tokens[rows],
            attribution_ps=np.add.reduceat(played.attribution_ps, first),
            continues=continues,
        )

    def _admit(self, outlook: Outlook, runs: RunColumns, played: Played) -> None:
        """Note when the first step with a part of each admitted request started; a static batch's may come later."""
        steps = len(played.ends)
        for step, request in outlook.admitted:
            if step < steps:
                request.status = "running"
        first = [(step, r) for step, r, computed, _ in outlook.chunks if computed == r.hit_tokens and step < steps]
        if not first:
            return
        of = np.searchsorted(runs.first, [step for step, _ in first])
        for (_, request), tick in zip(first, played.starts[of].tolist(), strict=True):
            if request.scheduled is None:
                request.scheduled = tick
                request.cached_tokens = request.hit_tokens
                self.queried_tokens += request.prompt_tokens
                self.hit_tokens += request.hit_tokens
            if request.preempted_at is not None:
                request.preempted_ticks += tick - request.preempted_at
                request.preempted_at = None

    def let_go(self, roster: Roster) -> None:
        """Have those leave who are over, where nobody else is there."""
        gone = roster.let_go()
        self._kv.share()
        self._kv.release([(request, request.most_cached_tokens) for request in gone])
        _free_slots(gone, roster)

    def _finish(self, request: Request, step: int, outlook: Outlook, played: Played) -> tuple[int, Request]:
        request.status = "finished"
        request.finished = int(played.ends[step])
        request.segments += self.tenure(request, outlook.first_step + step)
        return request.finished, request

    def _give_way(self, request: Request, cached: int, step: int, now: int) -> None:
        """Note that a request is preempted at tick *now*, before *step*; it computes all it has again."""
        has_token = request.prompt_step >= 0
        if has_token:
            request.segments += self.tenure(request, step - 1)
            request.generated = cached + 1 - request.prompt_tokens
        request.prompt_step = request.decode_step = request.first_decode = -1
        request.status = "waiting"
        request.num_preemptions += 1
        request.preempted_at = now


def _free_slots(requests: Iterable[Request], roster: Roster) -> None:
    for request in requests:
        roster.free_slots.append(request.slot)
        request.slot = -1
