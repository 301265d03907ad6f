"""Compute: the processors of one GPU, all SMs together."""

from __future__ import annotations

from gpusim.core.clock import Clock
from gpusim.core.component import Component
from gpusim.core.probe import Probe
from gpusim.spec.device import ComputeSpec


class Compute(Component):
    """The processors of one GPU; the kernels of its stream run on them one after another.

    How long a kernel keeps them is for the kernel's law to say; here it is only counted.

    Args:
        clock: The clock of the simulation.
        name: Where it is, such as ``gpu3.compute``.
        spec: Peak rates.
        probes: Shared by all components.
    """

    def __init__(self, clock: Clock, name: str, spec: ComputeSpec, *, probes: list[Probe] | None = None) -> None:
        super().__init__(clock, name, probes)
        self.spec = spec
        self.flops = 0.0
        """Floating-point operations done by the kernels that have ended."""
        self.busy_ticks = 0
        """Ticks the kernels that have ended took."""
        self._running = False

    def begin(self) -> int:
        """Note that a kernel starts; returns the tick, for `end`."""
        assert not self._running, f"{self.name} already runs a kernel"
        self._running = True
        return self.clock.now

    def end(self, start: int, flops: float) -> None:
        """Note that the kernel begun at tick *start* has ended and did *flops* operations."""
        assert self._running, f"{self.name} runs no kernel"
        self._running = False
        self.flops += flops
        self.busy_ticks += self.clock.now - start
        if self.probes:
            self.emit("busy", start, flops=flops)

    def account(self, busy_ticks: int, flops: float) -> None:
        """Count kernels that a caller who knew that nothing else was there has not played one by one."""
        self.busy_ticks += busy_ticks
        self.flops += flops

    def utilisation(self) -> float:
        """Return the fraction of the time since tick 0 that ended kernels took."""
        return self.busy_ticks / self.clock.now if self.clock.now else 0.0
