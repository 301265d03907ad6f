"""Host and memory pool: nodes that have memory but run no kernels."""

from __future__ import annotations

from gpusim.core.clock import Clock
from gpusim.core.component import Component
from gpusim.core.probe import Probe
from gpusim.hardware.memory import MemoryBank


class Host(Component):
    """A CPU socket; it forwards PCIe traffic.

    Args:
        clock: The clock of the simulation.
        name: Its node in the topology.
        memory: None: copies to it are limited by the links only.
        probes: Shared by all components.
    """

    def __init__(
        self, clock: Clock, name: str, memory: MemoryBank | None, *, probes: list[Probe] | None = None
    ) -> None:
        super().__init__(clock, name, probes)
        self.memory = memory


class MemoryPool(Component):
    """Memory on the fabric without processors.

    Args:
        clock: The clock of the simulation.
        name: Its node in the topology.
        memory: What it holds.
        probes: Shared by all components.
    """

    def __init__(self, clock: Clock, name: str, memory: MemoryBank, *, probes: list[Probe] | None = None) -> None:
        super().__init__(clock, name, probes)
        self.memory = memory
