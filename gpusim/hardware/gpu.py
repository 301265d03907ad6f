"""Gpu: memory, processors and copy engines of one device."""

from __future__ import annotations

import simpy

from gpusim.core.clock import Clock
from gpusim.core.component import Component
from gpusim.core.probe import Probe
from gpusim.hardware.compute import Compute
from gpusim.hardware.memory import MemoryBank
from gpusim.spec.device import DeviceSpec


class Gpu(Component):
    """One GPU of a cluster.

    Args:
        clock: The clock of the simulation.
        name: Its node in the topology.
        spec: The device.
        ideal: Memory gives its peak.
        probes: Shared by all components.
    """

    def __init__(
        self, clock: Clock, name: str, spec: DeviceSpec, *, ideal: bool = False, probes: list[Probe] | None = None
    ) -> None:
        super().__init__(clock, name, probes)
        self.spec = spec
        self.memory = MemoryBank(clock, f"{name}.memory", spec.memory, ideal=ideal, probes=probes)
        self.compute = Compute(clock, f"{name}.compute", spec.compute, probes=probes)
        self.copy_engines = simpy.Resource(clock.env, spec.copy_engines)
        """Copies in flight at once; more wait for their turn."""
