"""Committing steps that were played: the log, the requests, the blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from gpusim.core.arrays import IntArray
from gpusim.runtime.attribution import TRANSFER
from gpusim.serving.host_blocks import HostBlocks
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
        kv_blocks: IntArray,
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

    def after(self, moved: int) -> Played:
        """Return the same steps with the first one begun *moved* ticks before, when KV set out that it had to wait for."""
        if not moved:
            return self
        starts, attribution_ps = self.starts.copy(), self.attribution_ps.copy()
        starts[0] -= moved
        attribution_ps[0, TRANSFER] += moved
        return replace(self, starts=starts, attribution_ps=attribution_ps)


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
        host: Blocks of swapped KV; None: nothing is swapped.
    """

    def __init__(
        self,
        kv: KvCache,
        channels: KvChannels | None,
        log: RunLog,
        host: HostBlocks | None = None,
    ) -> None:
        self._kv = kv
        self._host = host
        self._channels = channels
        self._log = log
        self.bound_ps = 0
        """What all steps take at least."""
        self.held: IntArray = np.zeros(0, dtype=np.int64)
        """Blocks of requests that are not over in each of the steps committed last (steps,)."""
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
        swapped = {request for request, _ in outlook.swapped_out}
        for request, cached in outlook.preempted:
            self._give_way(request, cached, outlook.first_step, now, keeps_kv=request in swapped)
        if self._host is not None:
            self._host.take(outlook.swapped_out)

    def tenure(self, request: Request, until: int) -> list[tuple[int, int]]:
        """Return the segments of the tokens of a request since its admission, up to step *until*, included."""
        return request.tenure(until, self._pauses)

    def run(self, advance: Advance) -> list[tuple[int, Request]]:
        """Commit steps that were played; return who is finished, in order, each with the tick of its last token."""
        outlook, runs, roster, played = advance.outlook, advance.runs, advance.roster, advance.played
        steps = len(played.ends)
        finished = [(step, request) for step, request in outlook.finished if step < steps]
        self._pauses += [outlook.first_step + step for step in outlook.pauses if step < steps]
        self.bound_ps += played.bound_ps
        self._admit(outlook, runs, played)
        self._resume(outlook, int(played.starts[0]))
        gone = [
            (final if roster.lags else since, since, request) for final, since, request in outlook.gone if final < steps
        ]
        self.held = self._kv.keep(steps, gone)
        self._write_log(outlook, runs, played)
        if self._channels is not None and advance.read is not None:
            self._channels.keep(outlook, steps)
        left = [
            *outlook.gone_before,
            *(request for request, _ in outlook.preempted),
            *(request for _, _, request in gone),
        ]
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
            kv_blocks=np.maximum.reduceat(self.held, first),
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
            _go_on(request, tick)

    def _resume(self, outlook: Outlook, tick: int) -> None:
        """Note who came back from host memory with the step that started at *tick*."""
        if outlook.swapped_in:
            assert self._host is not None, "what comes from host memory was put there"
            self._host.release(outlook.swapped_in)
            for request, _ in outlook.swapped_in:
                request.status = "running"
                _go_on(request, tick)

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

    def _give_way(self, request: Request, cached: int, step: int, now: int, *, keeps_kv: bool) -> None:
        """Note that a request is preempted at tick *now*, before *step*; unless it *keeps_kv* it computes all it has again."""
        tokens = self.tenure(request, step - 1)
        if tokens:
            request.segments += tokens
            # The last token it got is not in the cache.
            request.generated = cached - request.prompt_tokens + (0 if keeps_kv else 1)
        request.prompt_step = request.decode_step = request.first_decode = -1
        request.status = "waiting"
        request.num_preemptions += 1
        request.preempted_at = now


def _go_on(request: Request, tick: int) -> None:
    """Note that a step that started at *tick* took up a request again, if it was preempted."""
    if request.preempted_at is not None:
        request.preempted_ticks += tick - request.preempted_at
        request.preempted_at = None


def _free_slots(requests: Iterable[Request], roster: Roster) -> None:
    for request in requests:
        roster.free_slots.append(request.slot)
        request.slot = -1
