"""Background traffic: copies and collectives that no request asked for, and when each was done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gpusim.core.clock import Clock, seconds, ticks
from gpusim.core.component import Process
from gpusim.hardware.cluster import Cluster
from gpusim.hardware.fabric import Stream
from gpusim.model.collectives import AllReduce
from gpusim.runtime.collective import CollectiveGroup
from gpusim.spec.background import BackgroundSpec, CollectiveSpec, CopySpec


@dataclass(slots=True)
class Background:
    """One entry of `background:` at work.

    Args:
        clock: Of the simulation.
        cluster: That carries it.
        spec: What to do.
        name: Its row in results.
        group: The GPUs of a collective.
    """

    clock: Clock
    cluster: Cluster
    spec: BackgroundSpec
    name: str
    group: CollectiveGroup | None = None
    transfers: list[tuple[int, int]] = field(default_factory=list)
    """(start, end) ticks of those done."""
    _stream: Stream | None = None

    def start(self) -> None:
        """Begin, at the spec's start."""
        self.clock.env.process(self._run())

    def stop(self) -> float:
        """End a stream; return the bytes this entry has moved."""
        if self._stream is not None:
            self._stream.stop()
            return self._stream.flow.accounted * self._stream.flow.loads.size_bytes
        return len(self.transfers) * (self.spec.size or 0.0)

    def _run(self) -> Process:
        spec = self.spec
        yield self.clock.timeout(ticks(spec.start))
        if isinstance(spec, CopySpec) and spec.rate is not None:
            loads = self.cluster.fabric.loads([(spec.source, spec.target, 1.0)], memory=True)
            self._stream = self.cluster.fabric.stream(loads, spec.rate)
            return
        transfer = self._transfer()
        due = self.clock.now
        while True:
            began = self.clock.now
            yield from transfer()
            self.transfers.append((began, self.clock.now))
            if spec.period is None or len(self.transfers) == spec.count:
                return
            due += ticks(spec.period)
            if due > self.clock.now:
                yield self.clock.timeout(due - self.clock.now)

    def _transfer(self) -> Callable[[], Process]:
        """Return what makes one transfer."""
        spec = self.spec
        size = spec.size
        assert size is not None, "the spec says a size where it says no rate"
        if isinstance(spec, CollectiveSpec):
            group = self.group
            assert group is not None, "a collective comes with its group"
            timed = group.timed(AllReduce(self.name, size))
            return lambda: group.perform(timed)
        source, target = spec.source, spec.target
        return lambda: self.cluster.copy(source, target, size)

    def summary(self) -> dict[str, object]:
        """Return what became of it, for the summary of a run."""
        times = [end - begin for begin, end in self.transfers]
        return {
            "name": self.name,
            "kind": self.spec.kind,
            "moved_bytes": self.stop(),
            "finished": len(times),
            "mean_s": seconds(sum(times)) / len(times) if times else None,
            "max_s": seconds(max(times)) if times else None,
        }
