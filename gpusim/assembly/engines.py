"""Assembly: the engines and the background traffic of a plan, put together on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpusim.assembly.facts import engine_facts
from gpusim.assembly.memory import kv_bandwidth, remote_kv, reserve
from gpusim.assembly.sharing import Sharing
from gpusim.hardware.cluster import Cluster
from gpusim.model.layout import Layout
from gpusim.model.lower import Lowering
from gpusim.placement import EnginePlan
from gpusim.results.step_log import StepLog
from gpusim.runtime.background import Background
from gpusim.runtime.collective import CollectiveGroup
from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.folding import Folder
from gpusim.runtime.kernel_executor import KernelExecutor
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.runtime.laws.host import NOTHING_BESIDE, OverlappedHost
from gpusim.runtime.laws.kernels import CalibratedLaws, KernelLaws, RooflineLaws
from gpusim.runtime.lockstep import Lockstep, Replica
from gpusim.runtime.mover import HostMover
from gpusim.runtime.program import ProgramTimer
from gpusim.runtime.step_executor import StepExecutor
from gpusim.runtime.what_if import ScaledLaws, collective_laws
from gpusim.serving.engine import Engine
from gpusim.serving.host_blocks import HostBlocks
from gpusim.serving.kv_cache import KvCache
from gpusim.serving.kv_channels import KvChannels
from gpusim.serving.lockstep import LockstepEngine
from gpusim.serving.offload import HostStore
from gpusim.serving.prefix_cache import PrefixCache
from gpusim.serving.request import Request
from gpusim.serving.reserve import Reserve
from gpusim.serving.schedulers import make_scheduler
from gpusim.spec.background import BackgroundSpec, CollectiveSpec
from gpusim.spec.device import DeviceSpec
from gpusim.spec.engine_profile import NO_PROFILE, EngineProfile
from gpusim.spec.laws import DEFAULT_ENGINE
from gpusim.spec.scenario import Detail, Ranks
from gpusim.spec.what_if import UNCHANGED, WhatIfSpec


class Assembly:
    """Puts engines and background traffic on one cluster.

    Args:
        cluster: The machine.
        engines: What to build.
        background: Traffic that no request asked for.
        detail: Of all engines; one that shares channels or links with others is played at kernel detail in any case.
        ranks: Of all engines, at kernel detail; of one that shares all ranks are played in any case.
        kernel_between: First tick, and the one behind the last, between which no step is folded.
        stated: The devices of the machine before *what_if*, by GPU.
        what_if: What the cluster's rates were changed by, for the laws.
    """

    def __init__(
        self,
        cluster: Cluster,
        engines: Sequence[EnginePlan],
        background: Sequence[BackgroundSpec],
        *,
        detail: Detail,
        ranks: Ranks,
        kernel_between: tuple[int, int] = (0, 0),
        stated: Mapping[str, DeviceSpec],
        what_if: WhatIfSpec = UNCHANGED,
    ) -> None:
        self._stated = stated
        self._what_if = what_if
        self.cluster = cluster
        self.clock = cluster.clock
        self.is_ideal = cluster.ideal
        self.background = [self._background(spec, f"background{number}") for number, spec in enumerate(background)]
        self._kernel_between = kernel_between
        shares_experts = any(plan.shares_experts for plan in engines)
        kernels = engines[0].profile.kernels if engines else DEFAULT_ENGINE
        self._experts = self._group([gpu for plan in engines for gpu in plan.gpus], kernels) if shares_experts else None
        self._lockstep: Lockstep | None = None
        self._groups = {
            plan.name: self._group(plan.gpus, plan.profile.kernels) if len(plan.gpus) > 1 else None for plan in engines
        }
        self._remotes = {plan.name: remote_kv(cluster, plan) for plan in engines}
        self._sharing = Sharing(
            cluster,
            engines,
            self.background,
            groups=self._groups,
            remotes=self._remotes,
            experts=self._experts,
            detail=detail,
            ranks=ranks,
        )

    def engine(self, plan: EnginePlan, log: StepLog, on_finished: Callable[[Request], None]) -> Engine:
        """Return an engine on its GPUs, their memory filled as planned.

        Args:
            plan: What to build.
            log: Gets its runs of steps.
            on_finished: Called with every request that is over.
        """
        reserve(self.cluster, plan)
        layout = Layout.of(plan.serving)
        lowering = Lowering(
            plan.model,
            layout,
            plan.dtype.weights,
            plan.dtype.kv,
            plan.attention.attention_kernel,
            plan.serving.sampling or plan.model.generation,
            plan.serving.expert_skew,
            graph_sizes=() if self.is_ideal else plan.profile.sizes_up_to(plan.serving.max_num_seqs),
            waits_for_host=plan.profile is not NO_PROFILE and not self.is_ideal,
        )
        max_model_len = plan.serving.max_model_len or plan.model.max_model_len
        scheduler = make_scheduler(plan.serving, plan.memory.num_blocks, max_model_len)
        kv = _kv_cache(plan, scheduler.reserve)
        options: dict[str, Any] = {
            "scheduler": scheduler,
            "kv": kv,
            "channels": self._channels(plan, lowering, kv),
            "lowering": lowering,
            "watermark_blocks": int(plan.serving.watermark_part * plan.memory.num_blocks),
            **self._beside_memory(plan),
            "max_model_len": max_model_len,
            "lags": plan.serving.async_scheduling,
            "log": log,
            "on_finished": on_finished,
            "probes": self.cluster.probes,
        }
        if plan.shares_experts:
            return LockstepEngine(self.clock, plan.name, replica=self._replica(plan, lowering), **options)
        executor = self._executor(plan)
        return Engine(
            self.clock,
            plan.name,
            executor=executor,
            folding=self._folding(plan, executor.timer, lowering) if self._sharing.detail(plan) == "step" else None,
            kernel_between=self._kernel_between,
            **options,
        )

    def facts(self, plan: EnginePlan, engine: Engine) -> dict[str, Any]:
        """Return what the summary says of *engine* beside its latencies."""
        return engine_facts(
            plan,
            engine,
            detail=self._sharing.detail(plan),
            ranks=self._sharing.ranks(plan),
            is_ideal=self.is_ideal,
            kv_bandwidth=kv_bandwidth(self.cluster, plan, self._remotes[plan.name]),
        )

    def _beside_memory(self, plan: EnginePlan) -> dict[str, Any]:
        """Return what an engine has of host memory."""
        memory, block_size = plan.memory, plan.serving.block_size
        return {
            "host": HostBlocks(memory.num_host_blocks, block_size) if plan.serving.swaps else None,
            "store": HostStore(memory.num_stored_blocks, block_size) if plan.serving.kv_offload else None,
            "mover": HostMover(self.cluster, plan.hosts, memory.block_bytes) if plan.hosts else None,
        }

    def _replica(self, plan: EnginePlan, lowering: Lowering) -> Replica:
        """Return the part of an engine in the steps of all that share its experts."""
        if self._lockstep is None:
            assert self._experts is not None, "an engine that shares experts has others to share them with"
            first, behind = self._kernel_between
            can_fold = self._sharing.detail(plan) == "step"
            self._lockstep = Lockstep(
                self.clock,
                self._experts,
                lowering,
                plan.serving.max_num_seqs,
                folds=lambda now: can_fold and not first <= now < behind,
            )
        replica = Replica(self._lockstep, self._executor(plan))
        self._lockstep.replicas.append(replica)
        return replica

    def _executor(self, plan: EnginePlan) -> KernelExecutor:
        gpus = [self.cluster.gpus[name] for name in plan.gpus]
        group, remote = self._groups[plan.name], self._remotes[plan.name]
        figures = GpuFigures(gpus[0].spec, gpus[0].memory.bandwidth)
        profile = self._what_if.profile(plan.profile)
        profile = profile if plan.serving.async_scheduling else profile.in_turn()
        timer = ProgramTimer(
            figures,
            self._laws(plan, profile),
            gpus[0].memory,
            group,
            remote,
            experts=self._experts,
            host=NOTHING_BESIDE if self.is_ideal else OverlappedHost.of(profile),
        )
        folded = self._sharing.plays_one_rank(plan)
        meet = None if self._lockstep is None else self._lockstep.meet
        return KernelExecutor(self.clock, gpus, self.cluster.fabric, timer, group, folded=folded, meet_others=meet)

    def _folding(self, plan: EnginePlan, timer: ProgramTimer, lowering: Lowering) -> StepExecutor:
        gpus = [self.cluster.gpus[name] for name in plan.gpus]
        folder = Folder(timer, lowering)
        return StepExecutor(self.clock, gpus, self.cluster.fabric, folder, self._sharing.foreign(plan))

    def _laws(self, plan: EnginePlan, profile: EngineProfile) -> KernelLaws:
        bandwidth = self.cluster.gpus[plan.gpus[0]].memory.bandwidth / self._what_if.hbm_bandwidth
        figures = GpuFigures(plan.device, bandwidth)
        laws: KernelLaws = RooflineLaws(figures)
        if not self.is_ideal:
            laws = CalibratedLaws(figures, laws_of(plan.device, profile.kernels), profile)
        return laws if self._what_if.is_neutral else ScaledLaws(laws, self._what_if)

    def _group(self, gpus: Sequence[str], kernels: str = DEFAULT_ENGINE) -> CollectiveGroup:
        laws = None if self.is_ideal else collective_laws(laws_of(self._stated[gpus[0]], kernels), self._what_if)
        hbm_bandwidth = self.cluster.gpus[gpus[0]].spec.memory.bandwidth
        return CollectiveGroup(self.clock, self.cluster.fabric, gpus, laws, hbm_bandwidth)

    def _channels(self, plan: EnginePlan, lowering: Lowering, kv: KvCache) -> KvChannels | None:
        """Return where KV lies on the channels; ideal memory spreads everything evenly."""
        channel_map = self.cluster.gpus[plan.gpus[0]].memory.channel_map
        if channel_map is None or self.is_ideal or plan.pool:
            return None
        return KvChannels(channel_map, lowering.kv_kinds, kv)

    def _background(self, spec: BackgroundSpec, name: str) -> Background:
        group = self._group(spec.gpus) if isinstance(spec, CollectiveSpec) else None
        return Background(self.clock, self.cluster, spec, spec.name or name, group)


def _kv_cache(plan: EnginePlan, reserve: Reserve) -> KvCache:
    num_blocks, block_size = plan.memory.num_blocks, plan.serving.block_size
    prefix = PrefixCache(num_blocks, block_size) if plan.serving.enable_prefix_caching else None
    return KvCache(num_blocks, block_size, reserve=reserve, prefix=prefix)
