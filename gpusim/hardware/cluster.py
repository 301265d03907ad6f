"""Cluster: every component of one machine, on one clock. It knows no engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext

import networkx as nx

from gpusim.core.clock import TICKS_PER_S, Clock
from gpusim.core.component import Component, Process
from gpusim.core.probe import Probe
from gpusim.errors import TopologyError
from gpusim.hardware.bandwidth_use import BandwidthUse, of_memories
from gpusim.hardware.fabric import Fabric
from gpusim.hardware.gpu import Gpu
from gpusim.hardware.graph import build_graph
from gpusim.hardware.host import Host, MemoryPool
from gpusim.hardware.memory import MemoryBank
from gpusim.spec.device import DeviceSpec, MemorySpec
from gpusim.spec.topology import GpuNodeSpec, HostNodeSpec, MemoryNodeSpec, TopologySpec


class Cluster(Component):
    """The machine a topology describes.

    Args:
        clock: The clock of the simulation.
        topology: Nodes and links.
        devices: The device for each name that the topology's GPU entries give, or a function that finds it. GPUs
            whose entry holds the device itself need none.
        ideal: Links and memories give their peak.
        probes: Shared by all components.

    Raises:
        TopologyError: If the graph is not a machine, or a device is missing.
    """

    def __init__(
        self,
        clock: Clock,
        topology: TopologySpec,
        devices: Mapping[str, DeviceSpec] | Callable[[str], DeviceSpec],
        *,
        ideal: bool = False,
        probes: list[Probe] | None = None,
    ) -> None:
        super().__init__(clock, topology.name, probes)
        self.topology = topology
        self.ideal = ideal
        self.graph = build_graph(topology)
        self.gpus: dict[str, Gpu] = {}
        self.hosts: dict[str, Host] = {}
        self.pools: dict[str, MemoryPool] = {}
        self.banks: dict[str, MemoryBank] = {}
        """The memory of each node that has one, by node name."""
        self._add_nodes(self.graph, devices)
        self.fabric = Fabric(clock, "fabric", self.graph, self.banks, ideal=ideal, probes=self.probes)

    def copy(self, source: str, target: str, size_bytes: float, *, is_read: bool = True, name: str = "copy") -> Process:
        """Move *size_bytes* from the memory of *source* to that of *target*; only if it *is_read* that loads the former.

        Holds a copy engine of *source*, or of *target* where *source* is no GPU. Alone it takes the latency of the
        route and then the bytes over the slowest of links and memories. Probes are told of its flow by *name*.

        Returns:
            The ticks at which its turn came and at which the last byte had arrived.

        Raises:
            TopologyError: If no links lead from *source* to *target*.
        """
        part = (source, target, size_bytes)
        loads = self.fabric.loads([part], memory=True) if is_read else self.fabric.writes([part])
        gpu = self.gpus.get(source) or self.gpus.get(target)
        with nullcontext() if gpu is None else gpu.copy_engines.request() as turn:
            if turn is not None:
                yield turn
            start = self.clock.now
            yield self.fabric.transfer(loads, latency_s=loads.latency_s, name=name).done
        self.emit("copy", start, source=source, target=target, size_bytes=size_bytes)
        return start, self.clock.now

    def utilisation(self) -> dict[str, float]:
        """Return the busy fraction, from tick 0 to now, of each link, memory and GPU's processors, by name."""
        elapsed_s = self.clock.now / TICKS_PER_S
        links = {name: _fraction(busy_s, elapsed_s) for name, busy_s in self.fabric.busy_s().items()}
        banks = {bank.name: bank.utilisation() for bank in self.banks.values()}
        processors = {gpu.compute.name: gpu.compute.utilisation() for gpu in self.gpus.values()}
        return links | banks | processors

    def bandwidth_use(self) -> BandwidthUse:
        """Return how much of its peak bandwidth each kind of memory and link used, from tick 0 to now."""
        moved = self.fabric.moved()
        hosts = [host.memory for host in self.hosts.values() if host.memory is not None]
        memories = {
            "HBM": of_memories(gpu.memory for gpu in self.gpus.values()),
            "host memory": of_memories(hosts),
            "memory pool": of_memories(pool.memory for pool in self.pools.values()),
        }
        return BandwidthUse.of(self.clock.now, memories | moved)

    def _add_nodes(
        self, graph: nx.MultiDiGraph[str], devices: Mapping[str, DeviceSpec] | Callable[[str], DeviceSpec]
    ) -> None:
        for name in graph:
            node = graph.nodes[name]["spec"]
            if isinstance(node, GpuNodeSpec):
                device = self._device(node.device, devices)
                gpu = Gpu(self.clock, name, device, ideal=self.ideal, probes=self.probes)
                self.gpus[name], self.banks[name] = gpu, gpu.memory
            elif isinstance(node, HostNodeSpec):
                bank = None if node.memory is None else self._bank(name, node.memory)
                self.hosts[name] = Host(self.clock, name, bank, probes=self.probes)
            elif isinstance(node, MemoryNodeSpec):
                self.pools[name] = MemoryPool(self.clock, name, self._bank(name, node.memory), probes=self.probes)

    def _device(
        self, device: str | DeviceSpec, devices: Mapping[str, DeviceSpec] | Callable[[str], DeviceSpec]
    ) -> DeviceSpec:
        if isinstance(device, DeviceSpec):
            return device
        if not isinstance(devices, Mapping):
            return devices(device)
        if device not in devices:
            raise TopologyError(f"topology {self.name}: no device is named {device}; known are {', '.join(devices)}")
        return devices[device]

    def _bank(self, name: str, memory: MemorySpec) -> MemoryBank:
        bank = MemoryBank(self.clock, f"{name}.memory", memory, ideal=self.ideal, probes=self.probes)
        self.banks[name] = bank
        return bank


def _fraction(busy_s: float, elapsed_s: float) -> float:
    """Return the busy fraction; the clock rounds to picoseconds, so it could else exceed 1 by that."""
    return min(1.0, busy_s / elapsed_s) if elapsed_s > 0.0 else 0.0
