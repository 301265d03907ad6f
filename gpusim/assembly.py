"""Assembly: the engines and the background traffic of a plan, put together on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpusim.hardware.cluster import Cluster
from gpusim.model.footprint import kv_bytes_per_token, weight_bytes
from gpusim.model.layout import Layout
from gpusim.model.lower import Lowering
from gpusim.placement import EnginePlan
from gpusim.results.step_log import StepLog
from gpusim.runtime.background import Background
from gpusim.runtime.collective import CollectiveGroup
from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.folding import Folder
from gpusim.runtime.foreign import (
    Resources,
    do_ranks_meet,
    is_alone,
    used_by_engine,
    used_by_stores,
    used_by_swaps,
)
from gpusim.runtime.foreign_load import EngineTraffic, ForeignCopies
from gpusim.runtime.foreign_timeline import ForeignTimeline
from gpusim.runtime.kernel_executor import KernelExecutor
from gpusim.runtime.kernel_timer import RemoteKv
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
from gpusim.spec.background import BackgroundSpec, CollectiveSpec, CopySpec
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
        self._detail: Detail = detail
        self._kernel_between = kernel_between
        self._ranks = ranks
        shares_experts = any(plan.shares_experts for plan in engines)
        kernels = engines[0].profile.kernels if engines else DEFAULT_ENGINE
        self._experts = self._group([gpu for plan in engines for gpu in plan.gpus], kernels) if shares_experts else None
        self._lockstep: Lockstep | None = None
        self._plans = tuple(engines)
        self._groups = {
            plan.name: self._group(plan.gpus, plan.profile.kernels) if len(plan.gpus) > 1 else None for plan in engines
        }
        self._remotes = {plan.name: self._remote(plan) for plan in engines}
        self._used = {plan.name: self._used_by(plan) for plan in engines}
        self._swapped = {plan.name: used_by_swaps(cluster, plan.hosts) for plan in engines}
        self._traffic = {plan.name: EngineTraffic(plan.gpus, self._groups[plan.name]) for plan in engines}
        copies = [entry.spec for entry in self.background if isinstance(entry.spec, CopySpec)]
        self._copies = ForeignCopies(cluster, copies)
        self._has_constant_copies = self._copies.are_constant(self._traffic.values()) and is_alone(
            self._copies.resources(), [*self._collective_resources(), *self._swapped.values()]
        )

    def engine(self, plan: EnginePlan, log: StepLog, on_finished: Callable[[Request], None]) -> Engine:
        """Return an engine on its GPUs, their memory filled as planned.

        Args:
            plan: What to build.
            log: Gets its runs of steps.
            on_finished: Called with every request that is over.
        """
        self._reserve(plan)
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
            folding=self._folding(plan, executor.timer, lowering) if self.detail(plan) == "step" else None,
            kernel_between=self._kernel_between,
            **options,
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
            can_fold = self.detail(plan) == "step"
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

    def detail(self, plan: EnginePlan) -> Detail:
        """Return the detail at which an engine is played: folded where all that shares with it is of constant rate."""
        if self._experts is not None:
            return self._detail if self._is_undisturbed(plan) else "kernel"
        meet = do_ranks_meet(self.cluster.fabric, self._remotes[plan.name])
        if meet or not is_alone(self._used[plan.name], self._others(plan)):
            return "kernel"
        can_fold = not self._feels_copies(plan) or (self._has_constant_copies and not plan.pool)
        return self._detail if can_fold else "kernel"

    def ranks(self, plan: EnginePlan) -> Ranks:
        """Return whether one rank of an engine stands for all; step detail knows no other."""
        if self.detail(plan) == "step":
            return "folded"
        return self._ranks if len(plan.gpus) > 1 and self._is_undisturbed(plan) else "all"

    def _is_undisturbed(self, plan: EnginePlan) -> bool:
        """Say whether nothing can come between the ranks of an engine and their laws, themselves included.

        Of engines that share experts, all or none.
        """
        if self._experts is not None:
            foreign = [self._copies.resources(), *self._collective_resources()]
            return is_alone(self._experts.resources(), foreign) and all(map(self._is_by_itself, self._plans))
        return self._is_by_itself(plan)

    def _is_by_itself(self, plan: EnginePlan) -> bool:
        meet = do_ranks_meet(self.cluster.fabric, self._remotes[plan.name])
        return not meet and not self._feels_copies(plan) and is_alone(self._used[plan.name], self._others(plan))

    def _others(self, plan: EnginePlan) -> list[Resources]:
        """Return what other engines, their KV on its way, its own beside its steps, and background collectives load."""
        engines = [used | self._swapped[name] for name, used in self._used.items() if name != plan.name]
        own = [used_by_stores(self.cluster, plan.hosts)] if plan.serving.kv_offload is not None else []
        return [*engines, *own, *self._collective_resources()]

    def _collective_resources(self) -> list[Resources]:
        return [entry.group.resources() for entry in self.background if entry.group is not None]

    def _feels_copies(self, plan: EnginePlan) -> bool:
        return not self._used[plan.name].isdisjoint(self._copies.resources())

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
        folded = self._ranks == "folded" and len(gpus) > 1 and self._is_undisturbed(plan)
        meet = None if self._lockstep is None else self._lockstep.meet
        return KernelExecutor(self.clock, gpus, self.cluster.fabric, timer, group, folded=folded, meet_others=meet)

    def _folding(self, plan: EnginePlan, timer: ProgramTimer, lowering: Lowering) -> StepExecutor:
        gpus = [self.cluster.gpus[name] for name in plan.gpus]
        foreign = ForeignTimeline(self._copies, self._traffic[plan.name]) if self._feels_copies(plan) else None
        return StepExecutor(self.clock, gpus, self.cluster.fabric, Folder(timer, lowering), foreign)

    def _used_by(self, plan: EnginePlan) -> Resources:
        return used_by_engine(self.cluster, plan.gpus, self._groups[plan.name], self._remotes[plan.name])

    def facts(self, plan: EnginePlan, engine: Engine) -> dict[str, Any]:
        """Return what the summary says of *engine* beside its latencies."""
        kv = engine.kv
        layout = Layout.of(plan.serving)
        return {
            "detail": self.detail(plan),
            "ranks": self.ranks(plan),
            "steps_at_kernel_detail": engine.steps_by_kernel,
            "share_at_kernel_detail": engine.steps_by_kernel / max(1, engine.roster.step),
            "gpus": list(plan.gpus),
            "device": plan.device.name,
            "model": plan.model.name,
            "max_model_len": engine.max_model_len,
            "laws": "ideal" if self.is_ideal else laws_of(plan.device, plan.profile.kernels).fitted_on,
            "weight_bytes_per_gpu": weight_bytes(plan.model, plan.dtype.weights, layout),
            "kv_bandwidth_bytes_per_s": self._kv_bandwidth(plan),
            "kv_bytes_per_token": kv_bytes_per_token(plan.model, plan.dtype.kv),
            "kv_blocks": kv.num_blocks,
            "kv_blocks_peak": kv.peak_used,
            "kv_blocks_used": kv.used,
            "prefix_cache": _prefix_facts(engine),
            "kv_pool": list(plan.pool),
            "shared_experts": _sharing_facts(plan, engine),
            **_swap_facts(engine.host),
            **_offload_facts(engine.store),
        }

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

    def _reserve(self, plan: EnginePlan) -> None:
        """Take the memory that weights, workspace and KV blocks fill; the banks refuse what does not fit."""
        memory = plan.memory
        for name in plan.gpus:
            bank = self.cluster.banks[name]
            bank.reserve(memory.weight_bytes, "weights")
            bank.reserve(memory.workspace_bytes, "workspace")
            if not plan.pool:
                bank.reserve(memory.num_blocks * memory.block_bytes, "KV blocks")
        for host in plan.hosts.values():
            if host in self.cluster.banks:
                self.cluster.banks[host].reserve(memory.host_bytes, "swapped and offloaded KV")
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

    def _channels(self, plan: EnginePlan, lowering: Lowering, kv: KvCache) -> KvChannels | None:
        """Return where KV lies on the channels; ideal memory spreads everything evenly."""
        channel_map = self.cluster.gpus[plan.gpus[0]].memory.channel_map
        if channel_map is None or self.is_ideal or plan.pool:
            return None
        return KvChannels(channel_map, lowering.kv_kinds, kv)

    def _background(self, spec: BackgroundSpec, name: str) -> Background:
        group = self._group(spec.gpus) if isinstance(spec, CollectiveSpec) else None
        return Background(self.clock, self.cluster, spec, spec.name or name, group)

    def _kv_bandwidth(self, plan: EnginePlan) -> float:
        """Return the peak rate at which a rank reads KV, bytes/s."""
        remote = self._remotes[plan.name]
        if remote is None:
            return self.cluster.gpus[plan.gpus[0]].spec.memory.bandwidth
        return 1 / max(self.cluster.fabric.peak_s(loads) for loads in remote.loads.values())


def _swap_facts(host: HostBlocks | None) -> dict[str, int]:
    if host is None:
        return {}
    return {
        "swaps": host.num_swaps,
        "host_kv_blocks": host.num_blocks,
        "host_kv_blocks_peak": host.peak_used,
        "host_kv_blocks_used": host.used,
        "kv_blocks_swapped_out": host.blocks_out,
        "kv_blocks_swapped_in": host.blocks_in,
    }


def _kv_cache(plan: EnginePlan, reserve: Reserve) -> KvCache:
    num_blocks, block_size = plan.memory.num_blocks, plan.serving.block_size
    prefix = PrefixCache(num_blocks, block_size) if plan.serving.enable_prefix_caching else None
    return KvCache(num_blocks, block_size, reserve=reserve, prefix=prefix)


def _sharing_facts(plan: EnginePlan, engine: Engine) -> dict[str, Any] | None:
    if not isinstance(engine, LockstepEngine):
        return None
    replica = engine.replica
    return {
        "replicas": plan.serving.data_parallel_size,
        "expert_parallel_size": Layout.of(plan.serving).expert_parallel_size,
        "steps": replica.group.num_steps,
        "dummy_steps": replica.num_dummies,
    }


def _prefix_facts(engine: Engine) -> dict[str, Any] | None:
    if engine.kv.prefix is None:
        return None
    queried, hit = engine.prefix_hits
    return {"queried_tokens": queried, "hit_tokens": hit, "hit_rate": hit / max(1, queried)}


def _offload_facts(store: HostStore | None) -> dict[str, int]:
    if store is None:
        return {}
    return {
        "offloaded_kv_blocks": store.num_blocks,
        "offloaded_kv_blocks_used": store.used,
        "kv_blocks_offloaded": store.blocks_out,
        "kv_blocks_restored": store.blocks_in,
    }
