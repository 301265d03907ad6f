"""The engine loop: decide, run, commit, over and over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np

from gpusim.core.clock import DECISION, Clock, FloatArray, IntArray, ticks_array
from gpusim.core.component import Component, Process
from gpusim.core.probe import Probe
from gpusim.model.lower import Lowering
from gpusim.model.work import BatchShape
from gpusim.runtime.executor import Executor, RunResult
from gpusim.serving.kv_cache import KvCache
from gpusim.serving.kv_channels import KvChannels
from gpusim.serving.request import Request
from gpusim.serving.scheduler import Batch, Scheduler

MAX_STEPS_PER_RUN = 32
"""Steps timed together; bounds the memory of their KV histograms."""


class RunLog(Protocol):
    """Where an engine commits its runs of steps."""

    def append(
        self,
        start: int,
        ends: IntArray,
        *,
        num_decodes: int,
        num_prefill_tokens: int,
        num_tokens: int,
        attribution_ps: IntArray,
    ) -> int:
        """Add a run of steps; return the number of its first step."""
        ...


class Engine(Component):
    """One model served on its own GPUs.

    Args:
        clock: Of the simulation.
        name: Of the engine.
        scheduler: Decides batches.
        kv: Blocks.
        channels: Where they lie; None if memory has no channels.
        lowering: Turns batches into programs.
        executor: Plays them.
        max_model_len: Longest prompt plus output it takes.
        log: Gets every run of steps.
        on_finished: Called with every request that is over, in the tick in which it is.
        probes: Shared by all components.
    """

    def __init__(
        self,
        clock: Clock,
        name: str,
        *,
        scheduler: Scheduler,
        kv: KvCache,
        channels: KvChannels | None,
        lowering: Lowering,
        executor: Executor,
        max_model_len: int,
        log: RunLog,
        on_finished: Callable[[Request], None],
        probes: list[Probe] | None = None,
    ) -> None:
        super().__init__(clock, name, probes)
        self.scheduler = scheduler
        self.kv = kv
        self.channels = channels
        self.lowering = lowering
        self.executor = executor
        self.max_model_len = max_model_len
        self.log = log
        self.on_finished = on_finished
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.bound_s = 0.0
        """What its steps take at least, see `RunResult.bound_s`."""
        self._free_slots: list[int] = []
        self._num_slots = 0
        self._wakeup = clock.event()
        clock.env.process(self._loop())

    def submit(self, request: Request) -> None:
        """Take *request* in, now; one that can never run is rejected and over at once."""
        request.rejected_because = self._cannot_run(request)
        if request.rejected_because is not None:
            request.status = "rejected"
            self.on_finished(request)
            return
        self.waiting.append(request)
        if not self._wakeup.triggered:
            self._wakeup.succeed()
        if self.scheduler.admits(self.running):
            self.executor.cut()

    def _cannot_run(self, request: Request) -> str | None:
        if request.prompt_tokens + request.output_tokens > self.max_model_len:
            return f"prompt and output are longer than max_model_len = {self.max_model_len}"
        if self.kv.blocks_for(request.most_cached_tokens) > self.kv.num_blocks:
            return f"needs more KV blocks than the {self.kv.num_blocks} there are"
        return None

    def _loop(self) -> Process:
        while True:
            if not self.waiting and not self.running:
                self._wakeup = self.clock.event()
                yield self._wakeup
            # What completes or arrives in this tick comes before the decision.
            yield self.clock.timeout(0, priority=DECISION)
            batch = self.scheduler.next_batch(self.waiting, self.running, self.kv)
            assert not batch.is_empty, "requests that could never run were rejected on arrival"
            self._prepare(batch)
            yield from self._run(batch)

    def _prepare(self, batch: Batch) -> None:
        """Give new requests a slot and take it back from preempted ones."""
        for request in batch.preempted:
            request.preempted_at = self.clock.now
            self._leave(request)
        for request, _ in batch.chunks:
            if request.slot < 0:
                self._enter(request)

    def _enter(self, request: Request) -> None:
        if not self._free_slots:
            self._free_slots.append(self._num_slots)
            self._num_slots += 1
        request.slot = self._free_slots.pop()
        if request.scheduled is None:
            request.scheduled = self.clock.now
        if request.preempted_at is not None:
            request.preempted_ticks += self.clock.now - request.preempted_at
            request.preempted_at = None

    def _leave(self, request: Request) -> None:
        if request.slot < 0:
            return
        if self.channels is not None:
            self.channels.clear(request)
        self._free_slots.append(request.slot)
        request.slot = -1

    def _run(self, batch: Batch) -> Process:
        """Play *batch* for as many steps as it holds and commit what came of it."""
        steps = min(batch.steps, MAX_STEPS_PER_RUN)
        taken = self.kv.extend(batch.decodes, steps)
        growth, kv_channels = self._kv_channels(batch, steps)
        program = self.lowering.lower(_shape(batch), steps)
        result = yield from self.executor.run(program, kv_channels=kv_channels)
        done = len(result.ends)
        if done < steps:
            self.kv.trim(batch.decodes, taken, done)
        self.kv.note_peak()
        if growth is not None and self.channels is not None:
            self.channels.grow(batch.decodes, growth[:done])
        self._commit(batch, result)

    def _kv_channels(self, batch: Batch, steps: int) -> tuple[FloatArray | None, FloatArray | None]:
        """Return what each decode adds to the channels, and (steps, channels) how the batch's KV is spread."""
        channels = self.channels
        if channels is None:
            return None, None
        for request, tokens in batch.chunks:
            channels.fill(request, request.computed + tokens)
        requests = batch.decodes + [request for request, _ in batch.chunks]
        spread = np.broadcast_to(channels.bytes_of(requests), (steps, channels.num_channels))
        growth = None
        if batch.decodes:
            growth = channels.growth(batch.decodes, steps)
            spread = spread + np.cumsum(growth.sum(axis=1), axis=0)
        return growth, spread / spread.sum(axis=1, keepdims=True)

    def _commit(self, batch: Batch, result: RunResult) -> None:
        """Log the run and move its requests on."""
        done = len(result.ends)
        completed = [request for request, tokens in batch.chunks if tokens == request.missing]
        first = self.log.append(
            result.start,
            result.ends,
            num_decodes=len(batch.decodes),
            num_prefill_tokens=sum(tokens for _, tokens in batch.chunks),
            num_tokens=len(batch.decodes) + len(completed),
            attribution_ps=_attribution_ps(result),
        )
        self.bound_s += result.bound_s
        for request, tokens in batch.chunks:
            request.computed += tokens
        for request in batch.decodes:
            request.computed += done
        for request in (*batch.decodes, *completed):
            request.got_tokens(first, done)
            if request.generated == request.output_tokens:
                self._finish(request, int(result.ends[-1]))
        self._show()

    def _finish(self, request: Request, end: int) -> None:
        request.status = "finished"
        request.finished = end
        self.running.remove(request)
        self.kv.release(request)
        self._leave(request)
        self.on_finished(request)

    def _show(self) -> None:
        if self.probes:
            self.count("running", len(self.running))
            self.count("waiting", len(self.waiting))
            self.count("kv_blocks", self.kv.used)


def _shape(batch: Batch) -> BatchShape:
    chunks = tuple((tokens, request.computed + tokens) for request, tokens in batch.chunks)
    finishing = sum(tokens == request.missing for request, tokens in batch.chunks)
    return BatchShape(
        num_decodes=len(batch.decodes),
        decode_context=sum(request.computed + 1 for request in batch.decodes),
        chunks=chunks,
        num_sampled=len(batch.decodes) + finishing,
    )


def _attribution_ps(result: RunResult) -> IntArray:
    """Round a run's attribution to ticks that sum to its time: the largest category takes what rounding left."""
    rounded = ticks_array(result.attribution_s)
    rounded[rounded.argmax()] += int(result.ends[-1]) - result.start - rounded.sum()
    return rounded
