"""Schedulers decide what the next step computes. They never wait.

`ContinuousScheduler` is vLLM v1: running sequences first, each its missing tokens within the step's budget, then
waiting ones in order of arrival; where blocks run out, the running request that came last is preempted and
recomputes later. `StaticScheduler` fills a batch, prefills all of it, decodes all of it, and only then takes the next.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from gpusim.serving.kv_cache import KvCache
from gpusim.serving.request import Request
from gpusim.spec.serving import ServingSpec


@dataclass(slots=True)
class Batch:
    """What a step computes, and for how many steps that holds."""

    decodes: list[Request] = field(default_factory=list)
    chunks: list[tuple[Request, int]] = field(default_factory=list)
    """Prefilling requests with the tokens they compute."""
    preempted: list[Request] = field(default_factory=list)
    """Requests that lost their blocks to make this batch possible."""
    steps: int = 1

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to compute."""
        return not self.decodes and not self.chunks


class Scheduler(Protocol):
    """Decides what an engine's next step computes."""

    def next_batch(self, waiting: deque[Request], running: list[Request], kv: KvCache) -> Batch:
        """Return the next batch; admitted requests move from *waiting* to *running*, preempted ones back.

        Blocks for the batch's first step are reserved; the batch is then the same for `Batch.steps` steps, unless a
        request arrives that `admits`.
        """
        ...

    def admits(self, running: list[Request]) -> bool:
        """Tell whether a request that arrives now could change the batch of the next step."""
        ...


class ContinuousScheduler:
    """First come, first served, with chunked prefill and preemption by recomputation.

    Args:
        spec: Of the engine.
    """

    def __init__(self, spec: ServingSpec) -> None:
        self.max_num_seqs = spec.max_num_seqs
        self.budget = spec.max_num_batched_tokens

    def next_batch(self, waiting: deque[Request], running: list[Request], kv: KvCache) -> Batch:
        """See `Scheduler.next_batch`."""
        batch = Batch()
        budget = self._schedule_running(batch, waiting, running, kv)
        if not batch.preempted:
            self._admit(batch, waiting, running, kv, budget)
        # After a preemption the next step may admit again, so this batch holds for one step only.
        if not batch.chunks and not batch.preempted:
            batch.steps = steps_unchanged(batch.decodes, kv)
        return batch

    def admits(self, running: list[Request]) -> bool:
        """See `Scheduler.admits`."""
        return len(running) < self.max_num_seqs

    def _schedule_running(self, batch: Batch, waiting: deque[Request], running: list[Request], kv: KvCache) -> int:
        """Schedule running requests in their order; return what is left of the budget."""
        budget = self.budget
        position = 0
        while position < len(running) and budget > 0:
            request = running[position]
            tokens = min(request.missing, budget)
            while not kv.reserve(request, request.computed + tokens):
                victim = running.pop()
                self._preempt(victim, batch, waiting, kv)
                if victim is request:
                    return budget
            _add(batch, request, tokens)
            budget -= tokens
            position += 1
        return budget

    def _preempt(self, victim: Request, batch: Batch, waiting: deque[Request], kv: KvCache) -> None:
        """Take the blocks of *victim*; it will compute its prompt and its tokens again."""
        kv.release(victim)
        victim.computed = 0
        victim.num_preemptions += 1
        victim.status = "waiting"
        waiting.appendleft(victim)
        batch.preempted.append(victim)

    def _admit(self, batch: Batch, waiting: deque[Request], running: list[Request], kv: KvCache, budget: int) -> None:
        while waiting and budget > 0 and len(running) < self.max_num_seqs:
            request = waiting[0]
            tokens = min(request.missing, budget)
            if not kv.reserve(request, tokens):
                return
            running.append(waiting.popleft())
            request.status = "running"
            _add(batch, request, tokens)
            budget -= tokens


class StaticScheduler:
    """One batch after another; blocks for the longest a request can get are reserved at the start.

    Args:
        spec: Of the engine.
    """

    def __init__(self, spec: ServingSpec) -> None:
        self.max_num_seqs = spec.max_num_seqs
        self.budget = spec.max_num_batched_tokens

    def next_batch(self, waiting: deque[Request], running: list[Request], kv: KvCache) -> Batch:
        """See `Scheduler.next_batch`."""
        if not running:
            self._fill(waiting, running, kv)
        batch = Batch()
        budget = self.budget
        for request in running:
            if not request.is_decoding and budget > 0:
                tokens = min(request.missing, budget)
                batch.chunks.append((request, tokens))
                budget -= tokens
        if not batch.chunks:
            batch.decodes = list(running)
            batch.steps = steps_unchanged(batch.decodes, kv) if running else 1
        return batch

    def admits(self, running: list[Request]) -> bool:
        """See `Scheduler.admits`: a running batch takes nobody in."""
        return not running

    def _fill(self, waiting: deque[Request], running: list[Request], kv: KvCache) -> None:
        while waiting and len(running) < self.max_num_seqs:
            request = waiting[0]
            if not kv.reserve(request, request.most_cached_tokens):
                return
            request.status = "running"
            running.append(waiting.popleft())


def _add(batch: Batch, request: Request, tokens: int) -> None:
    if request.is_decoding:
        batch.decodes.append(request)
    else:
        batch.chunks.append((request, tokens))


def steps_unchanged(decodes: list[Request], kv: KvCache) -> int:
    """Return for how many steps *decodes* go on alone: until the first has all its tokens, or blocks run out."""
    until_done = min(request.output_tokens - request.generated for request in decodes)
    if until_done == 1:
        return 1
    return max(1, kv.steps_until_shortage(decodes, until_done))


def make_scheduler(spec: ServingSpec) -> Scheduler:
    """Return the scheduler that *spec* names."""
    return StaticScheduler(spec) if spec.scheduler == "static" else ContinuousScheduler(spec)
