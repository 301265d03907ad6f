"""An idle machine of one kind of GPU on which calls are timed, by the parts a simulation is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gpusim.core.clock import TICKS_PER_S, Clock, FloatArray, IntArray
from gpusim.hardware.cluster import Cluster
from gpusim.hardware.memory import MemoryBank
from gpusim.machine import read_topology
from gpusim.model.work import Attention, Collective, Kernel
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

    def with_laws(self, laws: DeviceLawsSpec) -> Bench:
        """Return the same GPU with other laws."""
        return Bench(self.device, laws, self.memory)

    def seconds(self, calls: Calls) -> FloatArray:
        """Return what each call takes, (rows,): whole ticks of the clock, as in a simulation."""
        timer = self.timer(calls.engine)
        ticks = np.sum([_ticks(timer, work) for work in calls.works], axis=0)
        result: FloatArray = np.maximum(ticks / TICKS_PER_S, calls.host_floor_s) + calls.host_s
        return result

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


def _ticks(timer: KernelTimer, work: Kernel) -> IntArray:
    if isinstance(work, Attention):
        terms = timer.laws.time(work)
        return timer.attention(work, terms, timer.local_bytes(terms) / terms.memory_rate).ticks
    assert not isinstance(work, Collective), "collectives have a machine of their own"
    return timer.rows(work).ticks
