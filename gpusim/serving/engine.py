"""The engine loop: plan, play, commit, over and over."""

from __future__ import annotations

from collections.abc import Callable

from gpusim.core.clock import ARRIVAL, DECISION, TICKS_PER_S, Clock
from gpusim.core.component import Component, Process
from gpusim.core.probe import Probe
from gpusim.model.lower import Lowering
from gpusim.runtime.executor import Executor
from gpusim.runtime.step_executor import StepExecutor
from gpusim.serving.advance import Advancer, KernelAdvancer, StepAdvancer
from gpusim.serving.blocks import Blocks
from gpusim.serving.commit import Advance, Commit, RunLog
from gpusim.serving.feed import NEVER, Feed
from gpusim.serving.host_blocks import HostBlocks, Mover
from gpusim.serving.kv_cache import KvCache
from gpusim.serving.kv_channels import KvChannels
from gpusim.serving.offload import HostStore
from gpusim.serving.request import Request
from gpusim.serving.roster import Roster
from gpusim.serving.schedulers import Scheduler
from gpusim.serving.shown import shown_runs


class Engine(Component):
    """One model served on its own GPUs.

    Args:
        clock: Of the simulation.
        name: Of the engine.
        scheduler: Decides batches.
        kv: Blocks.
        channels: Where they lie; None if memory has no channels.
        lowering: Turns batches into programs.
        executor: Plays steps kernel by kernel.
        folding: Plays them folded, where and when that is right; None: never.
        kernel_between: First tick, and the one behind the last, between which steps start that are not folded.
        watermark_blocks: Left free by admission.
        host: Blocks of swapped KV; None: who is preempted computes it again.
        store: KV of finished requests in host memory; None: none is kept.
        mover: Moves blocks; None where neither is.
        max_model_len: Longest prompt plus output it takes.
        lags: Whether the batch of a step is fixed when the step before it starts.
        log: Gets every run of steps.
        on_finished: Called with every request that is over.
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
        folding: StepExecutor | None,
        kernel_between: tuple[int, int] = (0, 0),
        watermark_blocks: int = 0,
        host: HostBlocks | None = None,
        store: HostStore | None = None,
        mover: Mover | None = None,
        max_model_len: int,
        lags: bool = False,
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
        self.folding = folding
        self.max_model_len = max_model_len
        self.on_finished = on_finished
        self.host = host
        self.roster = Roster(
            kv.block_size, kv.num_blocks, scheduler.reserve, scheduler.key, lags=lags, prefix=kv.prefix
        )
        self.roster.free_host_blocks = 0 if host is None else host.num_blocks
        self.roster.watermark_blocks = watermark_blocks
        self.store = self.roster.store = store
        self.feed = Feed(clock, refill=lambda: False, refuse=self.refuse, is_open=False)
        self.steps_by_kernel = 0
        """Steps that were not folded."""
        self._kernel_between = kernel_between
        self._commit = Commit(kv, channels, log, host)
        self._blocks = Blocks(clock, kv, channels, self._commit, mover=mover, store=store)

    @property
    def bound_s(self) -> float:
        """What its steps take at least: weights, KV, FLOPs and collectives at peak, one after the other."""
        return self._commit.bound_ps / TICKS_PER_S

    @property
    def prefix_hits(self) -> tuple[int, int]:
        """Prompt tokens of requests that were scheduled, and those of them whose KV was there already."""
        return self._commit.queried_tokens, self._commit.hit_tokens

    def connect(self, refill: Callable[[], bool], *, is_open: bool) -> None:
        """Have requests come from a source; see `Feed`."""
        self.feed = Feed(self.clock, refill=refill, refuse=self.refuse, is_open=is_open)

    def start(self) -> None:
        """Begin to serve."""
        parts = (self.scheduler, self.feed, self._blocks)
        lags = self.roster.lags
        self._by_kernel = self._kernel_advancer(*parts)
        self._by_step = None if self.folding is None else StepAdvancer(*parts, self.folding, lags=lags)
        self.clock.env.process(self._loop())

    def _kernel_advancer(self, scheduler: Scheduler, feed: Feed, blocks: Blocks) -> KernelAdvancer:
        """Return what plays steps that are not folded."""
        return KernelAdvancer(
            scheduler,
            feed,
            blocks,
            lowering=self.lowering,
            executor=self.executor,
            clock=self.clock,
            lags=self.roster.lags,
        )

    def unfinished(self) -> list[Request]:
        """Return the requests that run or wait now, with the tokens they have got, once the run is over."""
        now = self.clock.now
        coming = self.feed.arrived_by(now)
        roster = self.roster
        for request in (*roster.prefilling, *roster.ready):
            request.decode_step = -1  # a plan that was given up may have had it decode
        for request in roster.running:
            request.segments += self._commit.tenure(request, roster.step - 1)
        return [*roster.running, *roster.swapped, *roster.waiting, *coming, *self.feed.take_refused(now)]

    def refuse(self, request: Request) -> str | None:
        """Say why *request* can never run; None if it can."""
        if request.prompt_tokens + request.output_tokens > self.max_model_len:
            return f"prompt and output are longer than max_model_len = {self.max_model_len}"
        if self.kv.blocks_for(request.most_cached_tokens) > self.kv.num_blocks:
            return f"needs more KV blocks than the {self.kv.num_blocks} there are"
        return self.scheduler.refuse(request)

    def _loop(self) -> Process:
        while True:
            if self.roster.is_idle:
                yield from self._wait_for_arrival()
            # What completes or arrives in this tick comes before the decision.
            yield self.clock.timeout(0, priority=DECISION)
            self.refuse_arrived(self.clock.now)
            if self.roster.is_idle and not self._has_arrivals():
                continue
            advancer, until = self._advancer()
            if not self.feed.is_open:
                self._cut_with_arrival(advancer)
            self._settle((yield from advancer.run(self.roster, until)))

    def _has_arrivals(self) -> bool:
        return self.feed.has_arrived(self.clock.now)

    def _wait_for_arrival(self) -> Process:
        """Wait until a request has arrived, and in an open loop for ever if none is left."""
        self.feed.arrived = self.clock.event()
        tick = self.feed.next_tick()
        if tick == NEVER:
            yield self.feed.arrived
            return
        announced = self.clock.timeout(max(0, tick - self.clock.now), priority=ARRIVAL)
        yield announced if self.feed.is_open else announced | self.feed.arrived

    def refuse_arrived(self, now: int) -> None:
        """Be through with the requests that have come by tick *now* and can never run."""
        for request in self.feed.take_refused(now):
            request.status = "rejected"
            self.on_finished(request)

    def _advancer(self) -> tuple[Advancer, int]:
        """Return what plays the next steps, and the tick from which on something else does."""
        first, behind = self._kernel_between
        if self._by_step is None:
            return self._by_kernel, behind if self.clock.now < behind else NEVER
        if first <= self.clock.now < behind:
            return self._by_kernel, behind
        return self._by_step, first if self.clock.now < first < behind else NEVER

    def _cut_with_arrival(self, advancer: Advancer) -> None:
        """Have a request that comes unannounced end the run with the step under way."""
        self.feed.arrived = self.clock.event()
        assert self.feed.arrived.callbacks is not None
        self.feed.arrived.callbacks.append(lambda _: advancer.cut())

    def _settle(self, advance: Advance) -> None:
        """Go on from what the steps that were played leave."""
        before, roster = self.roster, advance.roster
        self.roster = roster
        finished = self._commit.run(advance)
        self.kv.settle(roster)
        roster.fixed = advance.last_start
        if advance.is_by_kernel:
            self.steps_by_kernel += len(advance.played.ends)
        fixed = roster.fixed if roster.lags else self.clock.now
        # Those who were expected too early go back to the feed.
        early = roster.part(lambda request: self.feed.is_too_early(request, fixed))
        self.feed.take(advance.outlook.num_joined - early)
        if roster.leaving and roster.is_idle and not self.feed.has_arrived(roster.fixed):
            self._commit.let_go(roster)
            self.kv.settle(roster)
        for end, request in finished:
            self.refuse_arrived(end)
            self.on_finished(request)
        if self.probes:
            for start, end, args in shown_runs(advance, before, self._commit.held):
                for probe in self.probes:
                    probe.span_ticks(self.name, "steps", start, end, args)
            self.count("running", len(roster.running))
            self.count("waiting", len(roster.waiting))
            self.count("kv_blocks", self.kv.used)
            if self.host is not None:
                self.count("swapped", len(roster.swapped))
