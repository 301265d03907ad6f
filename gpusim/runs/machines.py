"""Which device of the catalog an experiment means, and the machine it ran on."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Any

from gpusim.errors import SpecError
from gpusim.runtime.default_laws import unmeasured
from gpusim.silicon.machines import device_name, letters_of, machine_of
from gpusim.spec.device import DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.names import names, read
from gpusim.spec.topology import TopologySpec
from gpusim.units import GB, GiB


def topology_of(
    system: Mapping[str, Any], devices: Mapping[str, DeviceSpec], *, left_out: bool = False
) -> TopologySpec:
    """Return a machine with the GPUs that *system* states.

    Args:
        system: Of an experiment.
        devices: Devices by the name experiments have for them, where the catalog's are not meant.
        left_out: Take the GPU for unmeasured: its laws are those that the default rule gives it from others.

    Raises:
        SpecError: If the catalog has no such GPU.
    """
    gpu = str(system.get("gpu", ""))
    device = devices.get(gpu) or _device(gpu, system.get("gpu_facts") or {})
    return machine_of(unmeasured(device) if left_out else device, int(system.get("num_gpus") or 1))


def _device(gpu: str, facts: Mapping[str, Any]) -> DeviceSpec:
    """Return the device of the catalog whose name begins like *gpu*; of several, the one the data sheet's facts fit best."""
    wanted = letters_of(gpu)
    stated = str(facts.get("memory_gb") or "")
    family = wanted.removesuffix(f"{stated}gb") if stated else wanted
    known = {name: letters_of(name) for name in names("device")}
    alike = [name for name, letters in known.items() if family and letters.startswith(family)]
    alike = [name for name in alike if not known[name][len(family) :][:1].isdigit()] or alike
    memory_gb, bandwidth = facts.get("memory_gb"), facts.get("memory_bw_gb_s")
    if alike and memory_gb and bandwidth:
        specs = [validate(DeviceSpec, read("device", name)) for name in alike]
        return min(specs, key=lambda spec: _distance(spec, float(memory_gb), float(bandwidth)))
    name = device_name(gpu)
    if name is None:
        raise SpecError(f"no device {gpu!r} in the catalog; name a file with --device {gpu}=FILE")
    return validate(DeviceSpec, read("device", name))


def _distance(spec: DeviceSpec, memory_gb: float, bandwidth_gb_per_s: float) -> tuple[float, str]:
    """Say how far a device is from the facts: the logarithms of the ratios of memory and bandwidth."""
    memory = abs(log(spec.memory.capacity / (memory_gb * GiB)))
    return memory + abs(log(spec.memory.bandwidth / (bandwidth_gb_per_s * GB))), spec.name
