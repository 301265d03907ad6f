"""`gpusim list`: what gpusim knows by name, in a few words each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpusim.errors import SpecError
from gpusim.hardware.graph import build_graph, links_of
from gpusim.hardware.memory import achieved_fraction
from gpusim.machine import gpu_devices, read_topology
from gpusim.model.footprint import kv_bytes_per_token, num_active_parameters, num_parameters
from gpusim.runtime.default_laws import donor_name
from gpusim.spec.device import ChannelMemorySpec, DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.engine_profile import EngineProfile
from gpusim.spec.folders import FOLDERS, Kind, names
from gpusim.spec.lengths import FixedLength, LengthSpec, LognormalLength, QuantileLength
from gpusim.spec.model import AttentionSpec, ModelSpec
from gpusim.spec.names import read
from gpusim.spec.topology import TopologySpec
from gpusim.spec.workload import WorkloadSpec
from gpusim.spelling import unknown_name

_KINDS: dict[str, Kind] = {plural: kind for kind, plural in FOLDERS.items()}


def describe(what: str) -> list[dict[str, Any]]:
    """Return a mapping for each thing that is listed under *what*; quantities in SI.

    Raises:
        SpecError: If nothing is listed under it.
    """
    if what not in _KINDS:
        raise SpecError(f"{what!r}: {unknown_name(what, list(_KINDS), 'kind')}")
    kind = _KINDS[what]
    return [_describe(kind, name) for name in names(kind)]


def _describe(kind: Kind, name: str) -> dict[str, Any]:
    document = read(kind, name)
    if kind == "device":
        return _device(validate(DeviceSpec, document))
    if kind == "model":
        return _model(validate(ModelSpec, document))
    if kind == "topology":
        return _topology(read_topology(name, Path()))
    if kind == "workload":
        return _workload(validate(WorkloadSpec, document))
    if kind == "engine":
        return _engine(validate(EngineProfile, document))
    return {"name": name, "about": document.data.get("name", "")}


def _engine(engine: EngineProfile) -> dict[str, Any]:
    return {
        "name": engine.name,
        "kernels": engine.kernels,
        "step_s": engine.step,
        "sequence_s": engine.sequence,
        "overlapped_step_s": engine.overlapped_step,
        "overlapped_sequence_s": engine.overlapped_sequence,
        "request_s": engine.request,
        "token_s": engine.token,
        "source": " ".join(engine.source.split()),
    }


def _device(device: DeviceSpec) -> dict[str, Any]:
    """Say what a device is; bandwidth of memory counts both directions together, of links one; all but efficiency is peak."""
    memory, measured = device.memory, device.laws is not None
    banks = memory if isinstance(memory, ChannelMemorySpec) else None
    return {
        "name": device.name,
        "vendor": device.vendor,
        "family": device.family,
        "memory_standard": None if banks is None else banks.standard,
        "memory_bytes": memory.capacity,
        "visible_bytes": memory.visible_bytes,
        "memory_bandwidth_bytes_per_s": memory.bandwidth,
        "memory_efficiency": achieved_fraction(memory),
        "channels": None if banks is None else banks.channels,
        "l2_bytes": device.l2,
        "sm_count": device.compute.sm_count,
        "boost_clock_hz": device.compute.boost_clock,
        "peak_flops": dict(device.compute.peak),
        "link_bandwidth_bytes_per_s": device.link_bandwidth,
        "host_link": device.host_link,
        "measured_laws": measured,
        "laws_from": None if measured else donor_name(device),
    }


def _topology(topology: TopologySpec) -> dict[str, Any]:
    graph = build_graph(topology)
    devices = gpu_devices(topology)
    kinds = [attributes["kind"] for _, attributes in graph.nodes(data=True)]
    links: dict[str, float] = {}
    for link in links_of(graph):
        if link.source == next(iter(devices)):
            links[link.kind] = links.get(link.kind, 0.0) + link.bandwidth
    return {
        "name": topology.name,
        "num_gpus": len(devices),
        "devices": list(dict.fromkeys(device.name for device in devices.values())),
        "num_hosts": kinds.count("host"),
        "num_switches": kinds.count("switch"),
        "num_memory_pools": kinds.count("memory"),
        "links_of_gpu_bytes_per_s": links,
        "source": " ".join(topology.source.split()),
    }


def _workload(workload: WorkloadSpec) -> dict[str, Any]:
    arrivals = workload.arrivals
    lengths = {"prompt_tokens": workload.prompt_tokens, "output_tokens": workload.output_tokens}
    return {
        "name": workload.name,
        "arrivals": None if arrivals is None else arrivals.kind,
        "rate_per_s": getattr(arrivals, "rate", None),
        **{
            f"{name}_p{level * 100:.0f}": _quantile(spec, level)
            for name, spec in lengths.items()
            for level in (0.5, 0.99)
        },
        "source": " ".join(workload.source.split()),
    }


def _quantile(length: LengthSpec | None, level: float) -> float | None:
    """Return a quantile that *length* states by itself."""
    if isinstance(length, QuantileLength):
        return length.quantiles.get(level)
    if isinstance(length, LognormalLength):
        return length.median if level == 0.5 else length.p99
    return length.value if isinstance(length, FixedLength) else None


def _model(model: ModelSpec) -> dict[str, Any]:
    attention = model.layers[0].attention
    return {
        "name": model.name,
        "parameters": num_parameters(model),
        "active_parameters": num_active_parameters(model),
        "layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "attention": _kind(attention),
        "num_heads": attention.num_heads,
        "num_kv_heads": attention.num_kv_heads,
        "head_dim": attention.head_dim,
        "kv_bytes_per_token": kv_bytes_per_token(model, "bf16"),
        "vocab_size": model.vocab_size,
        "max_model_len": model.max_model_len,
        "sampling": model.generation.model_dump(),
        "source": " ".join(model.source.split()),
    }


def _kind(attention: AttentionSpec) -> str:
    """Return how many heads share their keys and values: none (mha), some (gqa), all (mqa), or a latent (mla)."""
    if attention.latent is not None:
        return "mla"
    if attention.num_kv_heads == attention.num_heads:
        return "mha"
    return "mqa" if attention.num_kv_heads == 1 else "gqa"
