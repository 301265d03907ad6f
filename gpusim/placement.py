"""Placing engines: their GPUs, what lies in memory. Problems are collected, not raised."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from gpusim.errors import CapacityError
from gpusim.machine import gpu_devices, host_memories, memories, nearest_host
from gpusim.model.attention import without_wide_windows
from gpusim.model.layout import Layout
from gpusim.serving.capacity import MemoryPlan, plan_memory
from gpusim.spec.device import ChannelMemorySpec, DeviceSpec
from gpusim.spec.engine_profile import EngineProfile
from gpusim.spec.model import ModelSpec
from gpusim.spec.problems import Problems
from gpusim.spec.scenario import AttentionOverride, DtypeSpec
from gpusim.spec.serving import ServingSpec
from gpusim.spec.topology import TopologySpec
from gpusim.spec.workload import WorkloadSpec
from gpusim.stated import ALL_GPUS, StatedEngine
from gpusim.units import GiB


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """One engine, placed."""

    name: str
    gpus: tuple[str, ...]
    device: DeviceSpec
    model: ModelSpec
    dtype: DtypeSpec
    serving: ServingSpec
    """With every default filled in."""
    attention: AttentionOverride
    memory: MemoryPlan
    pool: tuple[str, ...]
    """Nodes that hold pooled KV; empty where it lies beside the weights."""
    hosts: dict[str, str]
    """Of each GPU, the host that keeps its swapped KV; empty where none is swapped."""
    workload: WorkloadSpec | None
    """Its own; None: it shares the scenario's."""

    @property
    def profile(self) -> EngineProfile:
        """What the engine adds to the time of its kernels."""
        return self.serving.profile

    @property
    def shares_experts(self) -> bool:
        """Whether it is one of several replicas over whose GPUs the experts are dealt; all engines of the plan are."""
        return Layout.of(self.serving).shares_experts


@dataclass
class Placement:
    """Engines on the GPUs of one machine.

    Args:
        topology: The machine, its devices written out.
        problems: Gets what is wrong.
    """

    topology: TopologySpec
    problems: Problems

    @cached_property
    def devices(self) -> dict[str, DeviceSpec]:
        """Every GPU."""
        return gpu_devices(self.topology)

    def place(self, stated: list[StatedEngine]) -> list[EnginePlan]:
        """Return the plans of all engines that can be placed."""
        chosen = [self._gpus(engine, replica) for replica, engine in enumerate(stated)]
        owner: dict[str, str] = {}
        for engine, gpus in zip(stated, chosen, strict=True):
            for gpu in gpus:
                if gpu in owner:
                    message = f"{gpu} already belongs to engine {owner[gpu]!r}; engines need GPUs of their own"
                    self.problems.add((*engine.where, "gpus"), message)
                owner[gpu] = engine.spec.name
        pool = tuple(name for name in memories(self.topology) if name not in owner)
        placed = [(engine, self._plan(engine, gpus, pool)) for engine, gpus in zip(stated, chosen, strict=True) if gpus]
        self._check_swap_space(placed)
        return [plan for _, plan in placed if plan is not None]

    def _hosts(self, engine: StatedEngine, gpus: tuple[str, ...]) -> dict[str, str] | None:
        """Return where each GPU swaps to: nowhere, or to the host nearest to it; None, and a problem, without one."""
        if not engine.serving.uses_host:
            return {}
        found = {gpu: nearest_host(self.topology, gpu) for gpu in gpus}
        lost = ", ".join(gpu for gpu, host in found.items() if host is None)
        if lost:
            key, way_out = ("preemption_mode", "swap: ") if engine.serving.swaps else ("kv_offload", "")
            message = (
                f"{way_out}{lost} of {self.topology.name} reaches no host; leave it out, or use a topology with hosts"
            )
            self.problems.add((*engine.where, "serving", key), message)
            return None
        return {gpu: host for gpu, host in found.items() if host is not None}

    def _check_swap_space(self, placed: list[tuple[StatedEngine, EnginePlan | None]]) -> None:
        """Check that the swap space of all engines fits the memory of their hosts."""
        known, taken = host_memories(self.topology), dict.fromkeys(host_memories(self.topology), 0.0)
        for engine, plan in placed:
            wanted = plan.memory.host_bytes if plan is not None else 0.0
            for host in plan.hosts.values() if plan is not None else ():
                taken[host] += wanted
                memory = known[host]
                if memory is not None and taken[host] > memory.capacity:
                    message = f"{taken[host] / GiB:.4g} GiB for the GPUs of {host}, which has {memory.capacity / GiB:.4g} GiB; lower it"
                    key = "swap_space" if engine.serving.swaps else "kv_offload"
                    self.problems.add((*engine.where, "serving", key), message)
                    break

    def _gpus(self, engine: StatedEngine, replica: int) -> tuple[str, ...]:
        """Return the GPUs of an engine; none, and a problem, if it cannot have them.

        Args:
            engine: To be placed.
            replica: Its number among all engines; replicas of one take the machine's GPUs in order.
        """
        known, size = list(self.devices), engine.serving.tensor_parallel_size
        asked = engine.spec.gpus
        where = (*engine.where, "gpus")
        unknown = [gpu for gpu in asked if gpu not in known]
        if asked == ALL_GPUS:
            needed = size * engine.serving.data_parallel_size
            alike = len({self.devices[gpu].name for gpu in known[:needed]}) == 1
            if needed <= len(known) and (alike or not Layout.of(engine.serving).shares_experts):
                return tuple(known[replica * size : (replica + 1) * size])
            if replica:
                return ()
            where = ("serving", "tensor_parallel_size")
            of = f" ({size} for each of {needed // size} replicas)" if needed > size else ""
            message = (
                f"{needed} GPUs are needed{of}, {self.topology.name} has {len(known)}; lower it or use another topology"
                if needed > len(known)
                else "the GPUs of replicas that share experts must be alike; use another topology"
            )
        elif unknown:
            message = f"{', '.join(unknown)}: no such GPU in {self.topology.name}, which has {', '.join(known)}"
        elif len(asked) != size:
            message = f"{len(asked)} GPUs, but tensor_parallel_size = {size}; make the two equal"
        elif len({self.devices[gpu].name for gpu in asked}) > 1:
            message = "the GPUs of an engine must be alike"
        else:
            return tuple(asked)
        self.problems.add(where, message)
        return ()

    def _plan(self, engine: StatedEngine, gpus: tuple[str, ...], pool: tuple[str, ...]) -> EnginePlan | None:
        """Return the plan of one engine on *gpus*, or None and its problems."""
        longest = engine.serving.max_model_len or engine.served.max_model_len
        serving = engine.serving.model_copy(update={"max_model_len": longest})
        model = without_wide_windows(engine.served, longest)
        pooled = pool if serving.kv_placement == "pooled" else ()
        memory = self._memory(engine, model, self.devices[gpus[0]], pooled)
        hosts = self._hosts(engine, gpus)
        if memory is None or hosts is None:
            return None
        return EnginePlan(
            name=engine.spec.name,
            gpus=gpus,
            device=self.devices[gpus[0]],
            model=model,
            dtype=engine.dtype,
            serving=serving,
            attention=engine.attention,
            memory=memory,
            pool=pooled,
            hosts=hosts,
            workload=engine.workload,
        )

    def _memory(
        self, engine: StatedEngine, model: ModelSpec, device: DeviceSpec, pool: tuple[str, ...]
    ) -> MemoryPlan | None:
        """Divide the memory of the engine's GPUs, or note that it does not fit."""
        if isinstance(device.memory, ChannelMemorySpec) and device.memory.map == "hash":
            message = f"{device.name}: not yet: map: hash in a run, where each layer lies differently; use map: rotate"
            self.problems.add(("topology",), message)
            return None
        pool_bytes = None
        if engine.serving.kv_placement == "pooled":
            known = memories(self.topology)
            pool_bytes = sum(known[name].capacity for name in pool)
            if not pool:
                message = f"pooled: {self.topology.name} has no GPU or memory pool that no engine computes on"
                self.problems.add((*engine.where, "serving", "kv_placement"), message)
                return None
        try:
            return plan_memory(
                model,
                engine.dtype.weights,
                engine.dtype.kv,
                engine.serving,
                capacity_bytes=device.memory.visible_bytes,
                pool_bytes=pool_bytes,
            )
        except CapacityError as error:
            self.problems.add((*engine.where, "model"), f"{model.name} does not fit {device.name}: {error}")
            return None
