"""What a topology holds, by node name, once its devices are written out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gpusim.errors import TopologyError
from gpusim.hardware.graph import build_graph
from gpusim.hardware.routes import Routes
from gpusim.spec.device import DeviceSpec, MemorySpec
from gpusim.spec.document import Document, validate
from gpusim.spec.names import is_path, locate, read
from gpusim.spec.problems import Location, Problems
from gpusim.spec.topology import GpuNodeSpec, HostNodeSpec, MemoryNodeSpec, NodeSpec, TopologySpec


def read_topology(stated: str | TopologySpec, folder: Path) -> TopologySpec:
    """Return the topology that *stated* means, with every device written out, checked to be one connected machine.

    Raises:
        SpecError: If it, or a device it names, is wrong.
        TopologyError: If its graph is not a machine.
    """
    document = Document("topology", {})
    if isinstance(stated, str):
        document = read("topology", stated, folder)
        spec = validate(TopologySpec, document)
        folder = locate("topology", stated, folder).parent if is_path(stated) else folder
    else:
        spec = stated
    problems = Problems()
    spec = with_devices(spec, folder, problems)
    if problems.found:
        raise document.error(problems.found)
    build_graph(spec)
    return spec


def with_devices(spec: TopologySpec, folder: Path, problems: Problems, where: Location = ()) -> TopologySpec:
    """Return the topology at *where* with every device written out that can be; *problems* gets the others."""

    def written_out(index: int, node: NodeSpec) -> NodeSpec:
        if not isinstance(node, GpuNodeSpec) or isinstance(node.device, DeviceSpec):
            return node
        name = node.device
        device = problems.attempt(
            (*where, "nodes", index, "device"), lambda: validate(DeviceSpec, read("device", name, folder))
        )
        return node.model_copy(update={"device": device})

    return spec.model_copy(update={"nodes": [written_out(*numbered) for numbered in enumerate(spec.nodes)]})


def _nodes(topology: TopologySpec) -> Iterator[tuple[str, NodeSpec]]:
    graph = build_graph(topology)
    for name in graph:
        yield name, graph.nodes[name]["spec"]


def gpu_devices(topology: TopologySpec) -> dict[str, DeviceSpec]:
    """Return the device of every GPU, in order."""
    found: dict[str, DeviceSpec] = {}
    for name, node in _nodes(topology):
        if isinstance(node, GpuNodeSpec):
            assert isinstance(node.device, DeviceSpec), "devices were written out when the topology was read"
            found[name] = node.device
    return found


def memories(topology: TopologySpec) -> dict[str, MemorySpec]:
    """Return the memory of every GPU and memory pool."""
    found = {name: device.memory for name, device in gpu_devices(topology).items()}
    return found | {name: node.memory for name, node in _nodes(topology) if isinstance(node, MemoryNodeSpec)}


def host_memories(topology: TopologySpec) -> dict[str, MemorySpec | None]:
    """Return the memory of every host, None where the topology states none."""
    return {name: node.memory for name, node in _nodes(topology) if isinstance(node, HostNodeSpec)}


def nearest_host(topology: TopologySpec, gpu: str) -> str | None:
    """Return the host that *gpu* reaches over the fewest links, then with the least latency; None if it reaches none."""
    routes = Routes(build_graph(topology))
    found = []
    for number, host in enumerate(host_memories(topology)):
        with suppress(TopologyError):
            route = routes.route(gpu, host)
            found.append((route.num_hops, route.latency_s, number, host))
    return min(found)[-1] if found else None


def copy_ends(topology: TopologySpec) -> list[str]:
    """Return the nodes that a copy can start or end at."""
    return [name for name, node in _nodes(topology) if isinstance(node, GpuNodeSpec | HostNodeSpec | MemoryNodeSpec)]
