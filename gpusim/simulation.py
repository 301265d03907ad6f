"""Simulation: a plan brought to life on a clock, and run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpusim.core.clock import Clock
from gpusim.core.interrupt import on_interrupt
from gpusim.core.probe import Probe
from gpusim.errors import SimulationError
from gpusim.hardware.cluster import Cluster
from gpusim.model.footprint import kv_bytes_per_token, kv_bytes_per_token_and_layer, weight_bytes
from gpusim.model.layout import Layout
from gpusim.model.lower import Lowering
from gpusim.placement import EnginePlan
from gpusim.plan import Plan, plan_scenario
from gpusim.results.request_log import RequestLog, Status
from gpusim.results.result import Result
from gpusim.results.step_log import StepLog
from gpusim.results.summary import RunRecord
from gpusim.runtime.background import Background
from gpusim.runtime.collective import CollectiveGroup
from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.executor import KernelExecutor
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.runtime.laws.kernels import CalibratedLaws, KernelLaws, RooflineLaws
from gpusim.runtime.program import ProgramTimer, RemoteKv
from gpusim.serving.engine import Engine
from gpusim.serving.kv_cache import KvCache
from gpusim.serving.kv_channels import KvChannels
from gpusim.serving.request import Request
from gpusim.serving.router import RoundRobin
from gpusim.serving.scheduler import make_scheduler
from gpusim.serving.source import Source
from gpusim.spec.background import CollectiveSpec
from gpusim.spec.scenario import Scenario
from gpusim.spec.workload import ClosedArrivals, WorkloadSpec
from gpusim.version import __version__
from gpusim.workload.stream import requests

OnFinished = Callable[[int], None]
"""Told how many requests are over."""


def simulate(scenario: Scenario, *, probes: Sequence[Probe] = (), on_finished: OnFinished | None = None) -> Result:
    """Run *scenario*.

    Args:
        scenario: From `gpusim.load`, or made in Python.
        probes: Watch the run; they change nothing.
        on_finished: Called with the number of requests that are over, whenever one is.

    Raises:
        SpecError: If the scenario is wrong; with all its problems.
        SimulationError: If none of its requests can run.
    """
    return Simulation(plan_scenario(scenario), probes=probes, on_finished=on_finished).run()


class Simulation:
    """One run of a plan, with its machine open to inspection.

    Args:
        plan: What to run.
        probes: Watch the run.
        on_finished: See `simulate`.
    """

    def __init__(self, plan: Plan, *, probes: Sequence[Probe] = (), on_finished: OnFinished | None = None) -> None:
        self.plan = plan
        self.probes = list(probes)
        self.is_ideal = plan.scenario.efficiency == "ideal"
        self.clock = Clock()
        self.cluster = Cluster(self.clock, plan.topology, {}, ideal=self.is_ideal, probes=self.probes)
        self.requests = RequestLog([engine.name for engine in plan.engines])
        self.logs = {engine.name: StepLog(engine.name) for engine in plan.engines}
        self.engines = {engine.name: self._engine(engine) for engine in plan.engines}
        self.background = [self._background(index) for index in range(len(plan.scenario.background))]
        self._on_finished = on_finished
        self._source_of: dict[str, Source] = {}
        self._num_undrained = 0
        self._is_complete = True
        self._drained = self.clock.event()
        self._start_sources()

    def run(self) -> Result:
        """Run to the end of the last request; a keyboard interrupt ends it early, with what was finished."""
        for entry in self.background:
            entry.start()
        try:
            with on_interrupt(self._stop):
                self.clock.run(until=self._drained)
        except KeyboardInterrupt:
            self._is_complete = False
        return Result(self._record(complete=self._is_complete))

    def _stop(self) -> None:
        """End the run early, with the tick under way."""
        self._is_complete = False
        if not self._drained.triggered:
            self._drained.succeed()

    def _start_sources(self) -> None:
        """Open the streams of requests: one of each engine that has its own, one that the others share."""
        own = [(engine.workload, [self.engines[engine.name]]) for engine in self.plan.engines if engine.workload]
        sharing = [self.engines[engine.name] for engine in self.plan.engines if engine.workload is None]
        shared = [(self.plan.workload, sharing)] if self.plan.workload is not None and sharing else []
        self._num_undrained = len(own) + len(shared)
        for workload, engines in own + shared:
            assert workload is not None, "the scenario states a workload where an engine has none"
            source = self._source(workload, engines)
            self._source_of.update({engine.name: source for engine in engines})

    def _source(self, workload: WorkloadSpec, engines: list[Engine]) -> Source:
        arrivals = workload.arrivals
        return Source(
            self.clock,
            requests(workload, seed=self.plan.scenario.seed, folder=Path()),
            RoundRobin(engines),
            concurrency=arrivals.concurrency if isinstance(arrivals, ClosedArrivals) else None,
            on_drained=self._note_drained,
        )

    def _note_drained(self) -> None:
        self._num_undrained -= 1
        if self._num_undrained == 0 and not self._drained.triggered:
            self._drained.succeed()

    def _engine(self, plan: EnginePlan) -> Engine:
        """Build one engine on its GPUs."""
        gpus = [self.cluster.gpus[name] for name in plan.gpus]
        self._reserve(plan)
        layout = Layout(plan.serving.tensor_parallel_size)
        lowering = Lowering(plan.model, layout, plan.dtype.weights, plan.dtype.kv, plan.attention.attention_kernel)
        collectives = self._group(plan.gpus) if len(gpus) > 1 else None
        figures = GpuFigures(plan.device, gpus[0].memory.bandwidth)
        timer = ProgramTimer(figures, self._laws(figures), gpus[0].memory, collectives, self._remote(plan))
        return Engine(
            self.clock,
            plan.name,
            scheduler=make_scheduler(plan.serving),
            kv=KvCache(plan.memory.num_blocks, plan.serving.block_size),
            channels=self._channels(plan, layout),
            lowering=lowering,
            executor=KernelExecutor(self.clock, gpus, self.cluster.fabric, timer, collectives),
            max_model_len=plan.serving.max_model_len or plan.model.max_model_len,
            log=self.logs[plan.name],
            on_finished=lambda request: self._over(plan.name, request),
            probes=self.probes,
        )

    def _laws(self, figures: GpuFigures) -> KernelLaws:
        return RooflineLaws(figures) if self.is_ideal else CalibratedLaws(figures, laws_of(figures.spec))

    def _group(self, gpus: Sequence[str]) -> CollectiveGroup:
        device = self.cluster.gpus[gpus[0]].spec
        laws = None if self.is_ideal else laws_of(device)
        return CollectiveGroup(self.clock, self.cluster.fabric, gpus, laws, device.memory.bandwidth)

    def _reserve(self, plan: EnginePlan) -> None:
        """Take the memory that weights, workspace and KV blocks fill; the banks refuse what does not fit."""
        memory = plan.memory
        for name in plan.gpus:
            bank = self.cluster.banks[name]
            bank.reserve(memory.weight_bytes, "weights")
            bank.reserve(memory.workspace_bytes, "workspace")
            if not plan.pool:
                bank.reserve(memory.num_blocks * memory.block_bytes, "KV blocks")
        shares = self._pool_shares(plan)
        for name, share in shares.items():
            self.cluster.banks[name].reserve(share * memory.num_blocks * memory.block_bytes, "pooled KV blocks")

    def _pool_shares(self, plan: EnginePlan) -> dict[str, float]:
        """Return the part of the KV that each memory of the pool holds: in proportion to its capacity."""
        capacity = {name: self.cluster.banks[name].spec.capacity for name in plan.pool}
        total = sum(capacity.values())
        return {name: size / total for name, size in capacity.items()}

    def _remote(self, plan: EnginePlan) -> RemoteKv | None:
        shares = self._pool_shares(plan)
        if not shares:
            return None
        fabric = self.cluster.fabric
        return RemoteKv({gpu: fabric.reads((name, gpu, share) for name, share in shares.items()) for gpu in plan.gpus})

    def _channels(self, plan: EnginePlan, layout: Layout) -> KvChannels | None:
        """Return where KV lies on the channels; ideal memory spreads everything evenly."""
        channel_map = self.cluster.gpus[plan.gpus[0]].memory.channel_map
        if channel_map is None or self.is_ideal or plan.pool:
            return None
        token_bytes = kv_bytes_per_token_and_layer(plan.model.layers[0].attention, plan.dtype.kv, layout)
        return KvChannels(channel_map, token_bytes, plan.serving.block_size, plan.serving.max_num_seqs)

    def _background(self, index: int) -> Background:
        spec = self.plan.scenario.background[index]
        group = self._group(spec.gpus) if isinstance(spec, CollectiveSpec) else None
        return Background(self.clock, self.cluster, spec, spec.name or f"background{index}", group)

    def _over(self, engine: str, request: Request) -> None:
        """Log a request that is finished or rejected, and let its source go on."""
        self._log(engine, request, request.status)
        if self._on_finished is not None:
            self._on_finished(len(self.requests))
        self._source_of[engine].over(request)

    def _log(self, engine: str, request: Request, status: Status) -> None:
        self.requests.append(
            engine,
            request.index,
            arrival=request.arrival,
            scheduled=request.scheduled,
            prompt_tokens=request.prompt_tokens,
            output_tokens=request.output_tokens,
            segments=request.segments,
            status=status,
            num_preemptions=request.num_preemptions,
            preempted=request.preempted_ticks,
            reason=request.rejected_because,
        )

    def _record(self, *, complete: bool) -> RunRecord:
        for name, engine in self.engines.items():
            for request in (*engine.running, *engine.waiting):
                self._log(name, request, request.status)
        rejected = self.requests.rejected_reasons()
        if complete and sum(rejected.values()) == len(self.requests):
            reasons = "; ".join(f"{count} rejected: {reason}" for reason, count in rejected.items())
            raise SimulationError(f"no request can run: {reasons or 'the workload is empty'}")
        scenario = self.plan.scenario
        return RunRecord(
            version=__version__,
            scenario=self.plan.resolved(),
            seed=scenario.seed,
            complete=complete,
            requests=self.requests,
            steps=self.logs,
            window=scenario.measure,
            slo=scenario.slo,
            utilisation=self.cluster.utilisation(),
            bounds={name: {"step": engine.bound_s} for name, engine in self.engines.items()},
            engines={plan.name: self._engine_facts(plan) for plan in self.plan.engines},
            background=[entry.summary() for entry in self.background],
            warnings=[f"{count} requests rejected: {reason}" for reason, count in rejected.items()],
        )

    def _engine_facts(self, plan: EnginePlan) -> dict[str, Any]:
        """Return what the summary says of an engine beside its latencies."""
        kv = self.engines[plan.name].kv
        layout = Layout(plan.serving.tensor_parallel_size)
        return {
            "gpus": list(plan.gpus),
            "device": plan.device.name,
            "model": plan.model.name,
            "laws": "ideal" if self.is_ideal else laws_of(plan.device).fitted_on,
            "weight_bytes_per_gpu": weight_bytes(plan.model, plan.dtype.weights, layout),
            "kv_bandwidth_bytes_per_s": self._kv_bandwidth(plan),
            "kv_bytes_per_token": kv_bytes_per_token(plan.model, plan.dtype.kv),
            "kv_blocks": kv.num_blocks,
            "kv_blocks_peak": kv.peak_used,
            "kv_blocks_used": kv.used,
            "kv_pool": list(plan.pool),
        }

    def _kv_bandwidth(self, plan: EnginePlan) -> float:
        """Return the peak rate at which a rank reads KV, bytes/s."""
        remote = self._remote(plan)
        if remote is None:
            return plan.device.memory.bandwidth
        return 1 / max(self.cluster.fabric.peak_s(loads) for loads in remote.loads.values())
