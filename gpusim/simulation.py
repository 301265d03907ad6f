"""Simulation: a plan brought to life on a clock, and run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gpusim.assembly.engines import Assembly
from gpusim.caveats import long_contexts, unmeasured
from gpusim.core.allocation import keep_freed_memory, rare_collections
from gpusim.core.clock import Clock, ticks
from gpusim.core.interrupt import on_interrupt
from gpusim.core.probe import Probe
from gpusim.errors import SimulationError
from gpusim.hardware.cluster import Cluster
from gpusim.machine import gpu_devices
from gpusim.placement import EnginePlan
from gpusim.plan import Plan, plan_scenario
from gpusim.results.delivery import Delivery
from gpusim.results.load_warnings import load_warnings, rejections
from gpusim.results.request_log import RequestLog, Status
from gpusim.results.result import Result
from gpusim.results.step_log import StepLog
from gpusim.results.summary import RunRecord
from gpusim.runtime.kernel_executor import KernelExecutor
from gpusim.serving.engine import Engine
from gpusim.serving.request import Request
from gpusim.serving.router import RoundRobin
from gpusim.serving.source import Source
from gpusim.spec.arrivals import ClosedArrivals
from gpusim.spec.engine_profile import EngineProfile
from gpusim.spec.scenario import Scenario
from gpusim.spec.workload import WorkloadSpec
from gpusim.version import __version__
from gpusim.workload.stream import may_follow, requests

OnFinished = Callable[[int], None]
"""Told how many requests are over."""


def simulate(
    scenario: Scenario,
    *,
    probes: Sequence[Probe] = (),
    on_finished: OnFinished | None = None,
    kernel_between: tuple[float, float] = (0.0, 0.0),
) -> Result:
    """Run *scenario*.

    Args:
        scenario: From `gpusim.load`, or made in Python.
        probes: Watch the run; they change nothing.
        on_finished: Called with the number of requests that are over, whenever one is.
        kernel_between: Seconds from which on, and before which, steps start that are played kernel by kernel for probes
            to see, whatever `detail` says. Token times are the same.

    Raises:
        SpecError: If the scenario is wrong; with all its problems.
        SimulationError: If none of its requests can run.
    """
    plan = plan_scenario(scenario)
    return Simulation(plan, probes=probes, on_finished=on_finished, kernel_between=kernel_between).run()


class Simulation:
    """One run of a plan, with its machine open to inspection.

    Args:
        plan: What to run.
        probes: Watch the run.
        on_finished: See `simulate`.
        kernel_between: See `simulate`.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        probes: Sequence[Probe] = (),
        on_finished: OnFinished | None = None,
        kernel_between: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        keep_freed_memory()
        self.plan = plan
        self.probes = list(probes)
        self.clock = Clock()
        is_ideal, what_if = plan.scenario.efficiency == "ideal", plan.scenario.what_if
        self.cluster = Cluster(self.clock, what_if.machine(plan.topology), {}, ideal=is_ideal, probes=self.probes)
        self._api = {
            engine.name: 0 if is_ideal else _api_ticks(what_if.profile(engine.profile)) for engine in plan.engines
        }
        self.requests = RequestLog(list(self._api), list(self._api.values()))
        self.logs = {engine.name: StepLog(engine.name, self._delivery(engine)) for engine in plan.engines}
        scenario = plan.scenario
        self._assembly = Assembly(
            self.cluster,
            plan.engines,
            scenario.background,
            detail=scenario.detail,
            ranks=scenario.ranks,
            kernel_between=(ticks(kernel_between[0]), ticks(kernel_between[1])),
            stated=gpu_devices(plan.topology),
            what_if=what_if,
        )
        self.engines = {engine.name: self._engine(engine) for engine in plan.engines}
        self.background = self._assembly.background
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
        for engine in self.engines.values():
            engine.start()
        try:
            with on_interrupt(self.stop), rare_collections():
                self.clock.run(until=self._drained)
        except KeyboardInterrupt:
            self._is_complete = False
        return Result(self._record(complete=self._is_complete))

    def stop(self) -> None:
        """End the run early, with the tick under way."""
        self._is_complete = False
        if not self._drained.triggered:
            self._drained.succeed()

    def played_for(self) -> dict[str, list[str]]:
        """Return the GPUs that are played at kernel detail for others too, each with those others."""
        executors = [engine.executor for engine in self.engines.values()]
        ranks = [each.ranks_alike for each in executors if isinstance(each, KernelExecutor)]
        return {first: others for first, *others in ranks if others}

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
            may_follow=may_follow(workload, Path()),
            on_drained=self._note_drained,
        )

    def _note_drained(self) -> None:
        self._num_undrained -= 1
        if self._num_undrained == 0 and not self._drained.triggered:
            self._drained.succeed()

    def _engine(self, plan: EnginePlan) -> Engine:
        return self._assembly.engine(plan, self.logs[plan.name], lambda request: self._over(plan.name, request))

    def _delivery(self, plan: EnginePlan) -> Delivery | None:
        """Return when tokens are delivered, where not all are equally late."""
        scenario = self.plan.scenario
        if not plan.serving.jitter or scenario.efficiency == "ideal":
            return None
        return Delivery(scenario.seed, plan.name, scenario.what_if.profile(plan.profile).jitter)

    def _over(self, engine: str, request: Request) -> None:
        """Log a request that is finished or rejected, and let its source go on."""
        self._log(engine, request, request.status)
        if self._on_finished is not None:
            self._on_finished(len(self.requests))
        later = 0 if request.finished is None else self.logs[engine].later(request.finished)
        self._source_of[engine].over(request, self._api[engine] + later)

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
            cached_tokens=request.cached_tokens or 0,
            preempted=request.preempted_ticks,
            reason=request.rejected_because,
        )

    def _record(self, *, complete: bool) -> RunRecord:
        for name, engine in self.engines.items():
            for request in engine.unfinished():
                self._log(name, request, request.status)
        rejected = self.requests.rejected_reasons()
        if complete and sum(rejected.values()) == len(self.requests):
            reasons = "; ".join(f"{count} rejected: {reason}" for reason, count in rejected.items())
            raise SimulationError(
                f"no request can run: {reasons}; raise the limit or send shorter requests (gpusim check says how many KV "
                "blocks there are, gpusim workload show how long requests are)"
                if reasons
                else "no request can run: the workload is empty"
            )
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
            use=self.cluster.bandwidth_use(),
            bounds={name: {"step": engine.bound_s} for name, engine in self.engines.items()},
            engines={plan.name: self._assembly.facts(plan, self.engines[plan.name]) for plan in self.plan.engines},
            background=[entry.summary() for entry in self.background],
            warnings=[
                *rejections(self.requests),
                *long_contexts(self.plan.engines),
                *self._of_the_load(),
                *unmeasured(self.plan),
            ],
        )

    def _of_the_load(self) -> Iterator[str]:
        """Warn of each stream of requests by itself."""
        for source in dict.fromkeys(self._source_of.values()):
            names = [name for name, own in self._source_of.items() if own is source]
            yield from load_warnings(self.requests, self.logs, names, self.plan.scenario.measure)


def _api_ticks(profile: EngineProfile) -> int:
    """Return what requests and tokens are under way between client and engine, both ways together."""
    return ticks(profile.request) + ticks(profile.token)
