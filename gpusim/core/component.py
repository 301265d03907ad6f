"""Component: a named part of the machine on a clock, observable by probes."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias

import simpy

from gpusim.core.clock import Clock
from gpusim.core.probe import Probe

Process: TypeAlias = Generator[simpy.Event, Any, Any]
"""What a SimPy process is made of; `yield from` it, or start it with ``clock.env.process``."""


class Component:
    """A part of the simulated machine.

    Args:
        clock: The clock of the simulation it lives in.
        name: Where it is, such as ``node0.gpu3.hbm``; the row of every trace and report.
        probes: A list shared by all components of a simulation; attach by appending to it.
    """

    def __init__(self, clock: Clock, name: str, probes: list[Probe] | None = None) -> None:
        self.clock = clock
        self.name = name
        self.probes: list[Probe] = [] if probes is None else probes

    def emit(self, what: str, start: int, **args: Any) -> None:
        """Tell the probes about a span from tick *start* to now."""
        for probe in self.probes:
            probe.span_ticks(self.name, what, start, self.clock.now, args)

    def count(self, what: str, value: float) -> None:
        """Tell the probes that *what* has *value* from now on."""
        for probe in self.probes:
            probe.counter_ticks(self.name, what, self.clock.now, value)
