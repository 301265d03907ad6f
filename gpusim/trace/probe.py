"""The probe that turns what components do into trace events, as they do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpusim.core.probe import Probe
from gpusim.runtime.executor import HOST_WAIT
from gpusim.runtime.mover import KV_TRANSFER
from gpusim.trace.engine_track import EngineTrack
from gpusim.trace.gpu_tracks import KernelTrack, MemoryTracks
from gpusim.trace.stage import LINKS, RATE, Lanes, Stage
from gpusim.trace.window import Window


class TraceProbe(Probe):
    """Writes the events of a window of a simulation; what it holds does not grow with them.

    Args:
        stage: Where they are written.
        window: Of the run.
    """

    def __init__(self, stage: Stage, window: Window) -> None:
        self._stage = stage
        self._writer = stage.writer
        self._window = window
        self.engines = {name: EngineTrack(stage.writer, stage.engine(name), window) for name in stage.engines}
        self._kernels: dict[str, KernelTrack] = {}
        self._memories: dict[str, MemoryTracks] = {}
        self._links: dict[str, Lanes] = {}
        self._moved: dict[str, tuple[int, int, Mapping[str, Any]]] = {}
        """What each GPU's kernel under way has moved: start, end and the rest."""

    def span_ticks(self, where: str, what: str, start: int, end: int, args: Mapping[str, Any]) -> None:
        """See `Probe.span_ticks`."""
        if what == "steps":
            self.engines[where].runs(start, args)
        elif start < self._window.first >= end:
            return
        elif what == "transfer":
            self._moved[where] = start, end, args
        elif what == "flow":
            self._flow(max(start, self._window.first), end, args)
        elif self._stage.is_shown(where):
            self._of_gpu(where, what, start, end, args)

    def counter_ticks(self, where: str, what: str, time: int, value: float) -> None:
        """See `Probe.counter_ticks`."""
        if what != "bytes_per_s":
            self.engines[where].count(what, time, value)
        elif time >= self._window.first:
            self._rate(where, time, value)

    @property
    def num_steps(self) -> int:
        """Steps shown, of all engines."""
        return sum(engine.num_steps for engine in self.engines.values())

    @property
    def last_end(self) -> int:
        """Tick at which the last of them ended."""
        return max(engine.last_end for engine in self.engines.values())

    def close(self, last_end: int) -> None:
        """End the spans that are open, and the counters at tick *last_end*."""
        for kernels in self._kernels.values():
            kernels.close()
        for engine in self.engines.values():
            engine.close(last_end)

    def _of_gpu(self, gpu: str, name: str, start: int, end: int, args: Mapping[str, Any]) -> None:
        if gpu not in self._kernels:
            self._kernels[gpu] = KernelTrack(self._writer, self._stage.node(gpu), self._window)
        track = self._kernels[gpu]
        if name == KV_TRANSFER:
            track.wait_before(name, start, end)
        elif name == HOST_WAIT:
            track.wait_behind(name, start, end)
        else:
            is_shown = track.show(name, start, end, args["operation"], args["part"])
            memory = self._stage.cluster.gpus[gpu].memory.name
            moved = self._moved.pop(memory, None)
            if is_shown and moved is not None and moved[0] == start < moved[1]:
                self._memory(memory).kernel(name, *moved)

    def _flow(self, start: int, end: int, args: Mapping[str, Any]) -> None:
        for where, size_bytes in args["bytes_on"].items():
            if where in self._stage.memories:
                self._memory(where).flow(args["name"], start, end, size_bytes)
            else:
                source = self._stage.link_source(where)
                if source is not None:
                    self._link(where, source).span(args["name"], start, end, {"bytes": round(size_bytes)})

    def _rate(self, where: str, time: int, value: float) -> None:
        if where in self._stage.memories:
            pid, name = self._stage.node(self._stage.memories[where]), "memory, copies"
        else:
            source = self._stage.link_source(where)
            if source is None:
                return
            pid, name = self._stage.node(source), where
        self._writer.counter(pid, name, RATE, time, value)

    def _memory(self, bank: str) -> MemoryTracks:
        if bank not in self._memories:
            node = self._stage.memories[bank]
            spec = self._stage.cluster.banks[node].spec
            self._memories[bank] = MemoryTracks(self._writer, self._stage.node(node), spec)
        return self._memories[bank]

    def _link(self, name: str, source: str) -> Lanes:
        if name not in self._links:
            self._links[name] = Lanes(self._writer, self._stage.node(source), name, LINKS)
        return self._links[name]
