"""`gpusim list`: what gpusim knows by name, in a few words each."""

from __future__ import annotations

from typing import Any, cast

from gpusim.model.footprint import kv_bytes_per_token, num_parameters
from gpusim.spec.device import DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.model import ModelSpec
from gpusim.spec.names import Kind, names, read

_KINDS: dict[str, Kind] = {
    "devices": "device",
    "models": "model",
    "topologies": "topology",
    "workloads": "workload",
    "examples": "example",
}


def describe(what: str) -> list[dict[str, Any]]:
    """Return a mapping for each thing that is listed under *what*; quantities in SI."""
    kind = _KINDS[what]
    return [_describe(kind, name) for name in names(kind)]


def _describe(kind: Kind, name: str) -> dict[str, Any]:
    document = read(kind, name)
    if kind == "device":
        return _device(validate(DeviceSpec, document))
    if kind == "model":
        return _model(validate(ModelSpec, document))
    about = document.data.get("source" if kind != "example" else "name", "")
    return {"name": name, "about": " ".join(str(about).split())}


def _device(device: DeviceSpec) -> dict[str, Any]:
    peak = device.compute.peak
    sixteen_bit = peak["bf16"] if "bf16" in peak else peak["fp16"]
    return {
        "name": device.name,
        "memory_bytes": device.memory.capacity,
        "memory_bandwidth_bytes_per_s": device.memory.bandwidth,
        "dense_16_bit_flops_per_s": sixteen_bit,
        "link_bandwidth_bytes_per_s": device.link_bandwidth,
        "measured": device.laws is not None,
    }


def _model(model: ModelSpec) -> dict[str, Any]:
    parameters = num_parameters(model)
    attention = model.layers[0].attention
    return {
        "name": model.name,
        "parameters": parameters,
        "active_parameters": parameters,
        "num_layers": model.num_layers,
        "num_heads": attention.num_heads,
        "num_kv_heads": attention.num_kv_heads,
        "kv_bytes_per_token": kv_bytes_per_token(model, cast("Any", "bf16")),
        "max_model_len": model.max_model_len,
    }
