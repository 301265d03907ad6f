"""Machines with executors on them and nothing that arrives: a test plays step programs on them by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from builders import build_lowering, catalog_model
from gpusim.core.clock import Clock, ticks
from gpusim.core.component import Process
from gpusim.hardware.cluster import Cluster
from gpusim.machine import read_topology
from gpusim.model.lower import Lowering
from gpusim.model.step import BatchShape, StepProgram
from gpusim.runtime.background import Background
from gpusim.runtime.collective import CollectiveGroup, TimedCollective
from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.executor import RunResult
from gpusim.runtime.kernel_executor import KernelExecutor
from gpusim.runtime.kernel_timer import RemoteKv
from gpusim.runtime.laws.gpu import GpuFigures
from gpusim.runtime.laws.kernels import CalibratedLaws, KernelLaws, RooflineLaws
from gpusim.runtime.program import ProgramTimer
from gpusim.spec.background import CollectiveSpec, CopySpec
from gpusim.spec.device import DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.names import read
from gpusim.spec.topology import TopologySpec


def catalog_device(name: str) -> DeviceSpec:
    """Return a device of the catalog."""
    return validate(DeviceSpec, read("device", name))


def figures_of(device: DeviceSpec, *, ideal: bool = False) -> GpuFigures:
    """Return *device* as laws see it."""
    memory = device.memory
    assert memory.efficiency is not None or ideal, "a test names the efficiency it counts on"
    return GpuFigures(device, memory.bandwidth * (1.0 if ideal else memory.efficiency or 0.0))


class Machine:
    """The cluster of a topology, with executors and background traffic as a test asks for them."""

    def __init__(self, topology: str | TopologySpec = "single-gpu", *, ideal: bool = False) -> None:
        self.ideal = ideal
        self.clock = Clock()
        self.cluster = Cluster(self.clock, read_topology(topology, Path()), {}, ideal=ideal)

    def group(self, *gpus: str) -> CollectiveGroup:
        """Return GPUs that do collectives together."""
        device = self.cluster.gpus[gpus[0]].spec
        laws = None if self.ideal else laws_of(device)
        return CollectiveGroup(self.clock, self.cluster.fabric, gpus, laws, device.memory.bandwidth)

    def executor(self, *gpus: str, remote: RemoteKv | None = None, folded: bool = False) -> KernelExecutor:
        """Return an executor on *gpus*; gpu0 if none are named."""
        ranks = [self.cluster.gpus[name] for name in gpus or ("gpu0",)]
        figures = GpuFigures(ranks[0].spec, ranks[0].memory.bandwidth)
        laws: KernelLaws = RooflineLaws(figures) if self.ideal else CalibratedLaws(figures, laws_of(ranks[0].spec))
        group = self.group(*gpus) if len(ranks) > 1 else None
        timer = ProgramTimer(figures, laws, ranks[0].memory, group, remote)
        return KernelExecutor(self.clock, ranks, self.cluster.fabric, timer, group, folded=folded)

    def remote(self, gpu: str, holders: Sequence[str]) -> RemoteKv:
        """Return KV spread evenly over the memories of *holders*, read by *gpu*."""
        shares = [(holder, gpu, 1 / len(holders)) for holder in holders]
        return RemoteKv({gpu: self.cluster.fabric.reads(shares)})

    def copy(self, source: str, target: str, **spec: Any) -> Background:
        """Start background copies."""
        stated = CopySpec.model_validate({"kind": "copy", "from": source, "to": target, **spec})
        return self._started(Background(self.clock, self.cluster, stated, "copy"))

    def all_reduces(self, *gpus: str, **spec: Any) -> Background:
        """Start background all-reduces."""
        stated = CollectiveSpec(kind="all_reduce", gpus=list(gpus), **spec)
        return self._started(Background(self.clock, self.cluster, stated, "all_reduce", self.group(*gpus)))

    def play(self, executor: KernelExecutor, program: StepProgram, **options: Any) -> RunResult:
        """Play *program* and return how it went; other traffic may still be under way."""
        return self.clock.run(self.clock.env.process(executor.run(program, **options)))

    def play_together(self, runs: Iterable[tuple[KernelExecutor, StepProgram]]) -> list[RunResult]:
        """Start all *runs* now and return how they went."""
        processes = [self.clock.env.process(executor.run(program)) for executor, program in runs]
        self.clock.run(self.clock.env.all_of(processes))
        return [process.value for process in processes]

    def perform(self, group: CollectiveGroup, timed: TimedCollective, *, at_s: float = 0.0) -> dict[str, int]:
        """Have *group* perform *timed* after *at_s*; the dictionary gets the start and end ticks as they come."""
        noted: dict[str, int] = {}

        def process() -> Process:
            yield self.clock.timeout(ticks(at_s))
            noted["start"] = self.clock.now
            yield from group.perform(timed)
            noted["end"] = self.clock.now

        self.clock.env.process(process())
        return noted

    def _started(self, background: Background) -> Background:
        background.start()
        return background


def decode(
    lowering: Lowering | None = None, *, batch: int = 4, context: int = 500, steps: int = 1, tp: int = 1
) -> StepProgram:
    """Return decode steps of *batch* sequences with *context* tokens each, of the tiny model unless said otherwise."""
    lowering = lowering or build_lowering(catalog_model("tiny"), tp=tp)
    return lowering.lower(BatchShape(batch, batch * context, num_sampled=batch), steps)


def count_events(clock: Clock, body: Callable[[], Any]) -> int:
    """Return how many events *body* put on the queue of *clock*."""
    schedule, number = clock.env.schedule, 0

    def counting(*args: Any, **options: Any) -> None:
        nonlocal number
        number += 1
        schedule(*args, **options)

    clock.env.schedule = counting  # type: ignore[method-assign]
    try:
        body()
    finally:
        del clock.env.schedule  # type: ignore[method-assign]
    return number
