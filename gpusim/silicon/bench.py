"""An idle machine of one kind of GPU on which calls are timed, by the parts a simulation is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.core.clock import TICKS_PER_S, Clock
from gpusim.hardware.cluster import Cluster
from gpusim.hardware.memory import MemoryBank
from gpusim.machine import read_topology
from gpusim.model.collectives import Collective
from gpusim.model.work import Attention, Kernel
from gpusim.runtime.collective import CollectiveGroup
from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.kernel_timer import KernelTimer
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.runtime.laws.kernels import CalibratedLaws
from gpusim.silicon.calls import Calls
from gpusim.silicon.machines import machine_of
from gpusim.spec.device import DeviceSpec
from gpusim.spec.laws import DeviceLawsSpec, LawsSpec


class Bench:
    """One kind of GPU, idle.

    Args:
        device: The GPU.
        laws: Its laws; None: its own, or those of the default rule.
        memory: Of such a GPU, where there is one already.
    """

    def __init__(
        self, device: DeviceSpec, laws: DeviceLawsSpec | None = None, memory: MemoryBank | None = None
    ) -> None:
        self.device = device
        self.laws = laws
        self.memory = memory or _memory(device)
        self._timers: dict[str, KernelTimer] = {}
        self._machines: dict[tuple[int, int, bool], CollectiveGroup] = {}

    def with_laws(self, laws: DeviceLawsSpec) -> Bench:
        """Return the same GPU with other laws."""
        bench = Bench(self.device, laws, self.memory)
        bench._machines = self._machines  # they have no laws
        return bench

    def seconds(self, calls: Calls) -> FloatArray:
        """Return what each call takes, (rows,): whole ticks of the clock, as in a simulation."""
        ticks = np.sum([self._ticks(calls, work) for work in calls.works], axis=0)
        # A CPU that launches call after call works while the GPU does: the slower of the two decides.
        result: FloatArray = np.maximum(ticks / TICKS_PER_S, calls.host_s)
        return result

    def _ticks(self, calls: Calls, work: Kernel) -> IntArray:
        if isinstance(work, Collective):
            return self._group(calls).rows(work).ticks
        timer = self.timer(calls.engine)
        if isinstance(work, Attention):
            terms = timer.laws.time(work)
            return timer.attention(work, terms, timer.local_bytes(terms) / terms.memory_rate).ticks
        return timer.rows(work).ticks

    def _group(self, calls: Calls) -> CollectiveGroup:
        """Return as many of these GPUs as take part, connected as in a machine of them."""
        per_node = calls.ranks_per_node or calls.ranks
        key = calls.ranks, per_node, calls.pairwise
        if key not in self._machines:
            topology = machine_of(self.device, per_node, calls.ranks // per_node, pairwise=calls.pairwise)
            cluster = Cluster(Clock(), read_topology(topology, Path()), {})
            self._machines[key] = CollectiveGroup(
                cluster.clock, cluster.fabric, list(cluster.gpus)[: calls.ranks], None, self.device.memory.bandwidth
            )
        laws = self._laws(calls.engine)
        if calls.law[0] == "nccl":
            laws = laws.model_copy(update={"engine_all_reduce": None})
        return self._machines[key].with_laws(laws)

    def timer(self, engine: str) -> KernelTimer:
        """Return what times the kernels of *engine* on one of these GPUs."""
        if engine not in self._timers:
            figures = GpuFigures(self.device, self.memory.bandwidth)
            laws = CalibratedLaws(figures, self._laws(engine))
            self._timers[engine] = KernelTimer(figures, laws, self.memory, None)
        return self._timers[engine]

    def _laws(self, engine: str) -> LawsSpec:
        return laws_of(self.device, engine) if self.laws is None else self.laws.of(engine)


def _memory(device: DeviceSpec) -> MemoryBank:
    cluster = Cluster(Clock(), read_topology(machine_of(device, 1), Path()), {})
    (gpu,) = cluster.gpus.values()
    return gpu.memory
