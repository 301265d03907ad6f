"""Rank: the kernels of one GPU, one after the other.

A process would read better but costs three generators for each kernel; the ranks are nearly all of what kernel detail
spends its time on, so their kernels follow each other by callbacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import simpy

from gpusim.core.arrays import FloatArray
from gpusim.core.clock import ticks
from gpusim.hardware.fabric import Fabric, Flow, Loads
from gpusim.hardware.gpu import Gpu
from gpusim.hardware.transfer import Transfer
from gpusim.runtime.collective import TimedCollective
from gpusim.runtime.program import TimedKernel

_KEPT: Final = 64
"""Durations under contention that a kernel remembers."""


class KernelOfStep:
    """A kernel as it is in the step that is being played; all ranks play the same."""

    __slots__ = ("_contended", "demand_s", "flops", "remote_bytes", "size_bytes", "step", "ticks", "timed")

    def __init__(self, timed: TimedKernel) -> None:
        self.timed = timed
        self.step = 0
        self._contended: dict[float, int] = {}
        self.ticks: int
        """Duration on idle resources."""
        self.demand_s: float | FloatArray
        self.size_bytes: float | FloatArray
        self.flops: float
        self.remote_bytes: float | None
        self.move_to(0)

    def move_to(self, step: int) -> None:
        """Be the kernel of *step*."""
        timed = self.timed
        row = step if len(timed.ticks) > 1 else 0
        self.step = step
        self._contended.clear()
        self.ticks = timed.ticks[row]
        self.demand_s = timed.demand_s[row]
        self.size_bytes = timed.size_bytes[row]
        self.flops = timed.flops[min(row, len(timed.flops) - 1)]
        self.remote_bytes = None if timed.remote_bytes is None else timed.remote_bytes[row]

    def contended_ticks(self, memory_s: float) -> int:
        """Return the duration when the bytes took *memory_s*; under steady traffic all layers find the same."""
        if memory_s not in self._contended:
            if len(self._contended) == _KEPT:
                self._contended.clear()
            self._contended[memory_s] = ticks(self.timed.contended_s(self.step, memory_s))
        return self._contended[memory_s]


Operations: TypeAlias = Sequence[KernelOfStep | TimedCollective]
Meet: TypeAlias = Callable[[TimedCollective | None], None]
"""Called by a rank that has come to a collective, or with None to the end of the step."""


class Reader:
    """Brings the KV that a rank reads from other memories.

    Args:
        fabric: Over which it comes.
        loads: Of one byte for each rank that this one stands for.
        latency_s: Before the first byte moves.
    """

    def __init__(self, fabric: Fabric, loads: Loads, latency_s: float) -> None:
        self.latency_s = latency_s
        self._fabric = fabric
        self._unit = loads
        self._size_bytes = 1.0
        self._loads = loads

    def read(self, size_bytes: float) -> Flow:
        """Start to bring *size_bytes*; all layers of a step ask for the same."""
        if size_bytes != self._size_bytes:
            self._size_bytes, self._loads = size_bytes, self._unit.scaled(size_bytes)
        return self._fabric.transfer(self._loads, latency_s=self.latency_s, name="KV from other memories")


class Rank:
    """One GPU of an engine.

    Args:
        gpu: That computes.
        reader: Of KV that lies elsewhere.
        meet: Where it waits for the other ranks; whoever is told calls `proceed` when they have met.
    """

    def __init__(self, gpu: Gpu, reader: Reader | None, meet: Meet) -> None:
        self.gpu = gpu
        self._clock = gpu.clock
        self._compute = gpu.compute
        self._memory = gpu.memory
        self._reader = reader
        self._meet = meet
        self._operations: Operations = ()
        self._parts: Sequence[str] = ()
        self._next = 0
        self._kernel: KernelOfStep
        self._start = 0
        self._transfer: Transfer
        self._flow: Flow | None = None
        self._on_due = self._check  # bound once: every kernel schedules it

    def play(self, operations: Operations, parts: Sequence[str] = ()) -> None:
        """Start with the first of the operations of a step.

        Args:
            operations: Of the step, in order.
            parts: The part of the step that each belongs to, for probes.
        """
        self._operations = operations
        self._parts = parts
        self._next = 0
        self.proceed()

    def proceed(self) -> None:
        """Go on to the next operation, or to the end of the step."""
        number = self._next
        if number == len(self._operations):
            self._meet(None)
            return
        self._next = number + 1
        operation = self._operations[number]
        if isinstance(operation, KernelOfStep):
            self._begin(operation)
        else:
            self._meet(operation)

    def _begin(self, kernel: KernelOfStep) -> None:
        """Start to stream the bytes of a kernel; if nothing else is there its end is known."""
        self._kernel = kernel
        self._start = self._compute.begin()
        self._transfer = transfer = self._memory.stream(kernel.demand_s, kernel.size_bytes)
        if kernel.remote_bytes is not None:
            assert self._reader is not None, "a kernel with remote bytes comes with what reads them"
            self._flow = self._reader.read(kernel.remote_bytes)
        if transfer.lone:
            self._clock.call_in(kernel.ticks, self._on_due)
        else:
            self._wait()

    def _check(self, event: simpy.Event) -> None:
        """End the kernel if its bytes have moved as on idle resources."""
        transfer, flow = self._transfer, self._flow
        as_idle = transfer.lone and not transfer.disturbed and transfer.due <= self._clock.now
        if as_idle and (flow is None or (flow.done.triggered and not flow.disturbed)):
            self._end(event)
        else:
            self._wait()

    def _wait(self, _: simpy.Event | None = None) -> None:
        """Wait for the bytes, then for what the law says is left of the kernel."""
        transfer, flow, now = self._transfer, self._flow, self._clock.now
        for done in (transfer.done,) if flow is None else (transfer.done, flow.done):
            if not done.triggered:
                assert done.callbacks is not None
                done.callbacks.append(self._wait)
                return
        duration = self._kernel.ticks
        if transfer.disturbed or (flow is not None and flow.disturbed):
            remote_s = self._remote_s(flow)
            duration = self._kernel.contended_ticks(max(remote_s, transfer.elapsed_s))
        # After others' traffic the bytes may end a rounding to the clock later than the law says.
        self._clock.call_in(max(0, self._start + duration - now), self._end)

    def _remote_s(self, flow: Flow | None) -> float:
        if flow is None or self._reader is None:
            return 0.0
        return self._reader.latency_s + flow.elapsed_s

    def _end(self, _: simpy.Event) -> None:
        self._flow = None
        self._compute.end(self._start, self._kernel.flops)
        if self.gpu.probes:
            self.show(self._kernel.timed.name, self._start)
        self.proceed()

    def show(self, what: str, start: int) -> None:
        """Tell the probes that the operation under way began at tick *start* and ends now."""
        number = self._next - 1
        self.gpu.emit(what, start, operation=number, part=self._parts[number] if self._parts else "")
