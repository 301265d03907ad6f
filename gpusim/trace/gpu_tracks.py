"""The tracks of one GPU: its kernels, nested in parts of the model and steps, and its memory by stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from gpusim.core.clock import TICKS_PER_S, ticks
from gpusim.spec.device import ChannelMemorySpec, MemorySpec
from gpusim.trace.events import EventWriter
from gpusim.trace.stage import COMPUTE, MEMORY, RATE, Lanes
from gpusim.trace.window import Window

KERNEL_BYTES: Final = "memory, kernels"


class KernelTrack:
    """Kernels and collectives one after the other, in spans of the parts of the model, in spans of steps.

    What a step waits for before its kernels, or behind them, is in the step beside the parts.

    Args:
        writer: Gets the events.
        pid: Process of the GPU.
        window: Only steps that start in it are shown.
    """

    def __init__(self, writer: EventWriter, pid: int, window: Window) -> None:
        self._writer = writer
        self._track = writer.track(pid, "kernels", COMPUTE)
        self._window = window
        self._is_open = False
        """Whether a step is."""
        self._part = ""
        """The one that is open in it; none if empty."""
        self._waits: list[tuple[str, int, int]] = []
        """What the next step waited for: name, start and end."""
        self._end = 0

    def show(self, name: str, start: int, end: int, operation: int, part: str) -> bool:
        """Show a kernel, the *operation* of that number in its step, in *part* of the model; tell whether it is in the window."""
        if operation == 0:
            self._begin_step(start)
        if not self._is_open:
            return False
        if operation == 0 or part != self._part:
            self._end_part()
            self._part = part
            self._writer.begin(self._track, part, start)
        self._span(name, start, end)
        return True

    def wait_before(self, name: str, start: int, end: int) -> None:
        """Note what the step waits for that begins next."""
        self._waits.append((name, start, end))

    def wait_behind(self, name: str, start: int, end: int) -> None:
        """Show what the step waits for whose kernels are over."""
        if self._is_open:
            self._end_part()
            self._span(name, start, end)

    def close(self) -> None:
        """End the step that is open."""
        if self._is_open:
            self._end_part()
            self._writer.end(self._track, self._end)
            self._is_open = False

    def _begin_step(self, start: int) -> None:
        self.close()
        waits, self._waits = self._waits, []
        begun = waits[0][1] if waits and waits[-1][2] == start else start
        self._is_open = self._window.first <= begun < self._window.behind
        if self._is_open:
            self._writer.begin(self._track, "step", begun)
            for name, wait_start, wait_end in waits if begun < start else ():
                self._span(name, wait_start, wait_end)

    def _end_part(self) -> None:
        if self._part:
            self._writer.end(self._track, self._end)
            self._part = ""

    def _span(self, name: str, start: int, end: int) -> None:
        if end > start:
            self._writer.begin(self._track, name, start)
            self._writer.end(self._track, end)
        self._end = end


class MemoryTracks:
    """What moves in one memory bank, by stack.

    Args:
        writer: Gets the events.
        pid: Process of the node.
        spec: Of the memory.
    """

    def __init__(self, writer: EventWriter, pid: int, spec: MemorySpec) -> None:
        self._writer = writer
        self._pid = pid
        self._stacks = spec.stacks if isinstance(spec, ChannelMemorySpec) else 1
        names = [f"HBM stack {n}" for n in range(self._stacks)] if self._stacks > 1 else ["memory"]
        self._lanes = [Lanes(writer, pid, name, MEMORY + place) for place, name in enumerate(names)]

    def kernel(self, name: str, start: int, end: int, args: Mapping[str, Any]) -> None:
        """Show what a kernel moved, a transfer with the *args* that the bank gave it, and the rate in its mean."""
        size, demand_s = (
            self._by_stack(args["channel_bytes"], total=True),
            self._by_stack(args["demand_s"], total=False),
        )
        for lanes, size_bytes, longest_s in zip(self._lanes, size, demand_s, strict=True):
            # Alone, a stack is through with its fullest channel; beside others when the transfer is.
            stack_end = end if args["disturbed"] else min(end, start + ticks(longest_s))
            if stack_end > start:
                lanes.span(name, start, stack_end, {"bytes": round(size_bytes)})
        self._writer.counter(self._pid, KERNEL_BYTES, RATE, start, args["size_bytes"] * TICKS_PER_S / (end - start))
        self._writer.counter(self._pid, KERNEL_BYTES, RATE, end, 0)

    def flow(self, name: str, start: int, end: int, size_bytes: float) -> None:
        """Show traffic of the fabric, which is spread evenly."""
        for lanes in self._lanes:
            lanes.span(name, start, end, {"bytes": round(size_bytes / self._stacks)})

    def _by_stack(self, of_channels: Any, *, total: bool) -> list[float]:
        """Return the sum over the channels of each stack, or the largest of them, of a value each or a common one."""
        if not isinstance(of_channels, np.ndarray):
            return [of_channels / self._stacks if total else of_channels] * self._stacks
        rows = of_channels.reshape(self._stacks, -1)
        found: list[float] = (rows.sum(axis=1) if total else rows.max(axis=1)).tolist()
        return found
