"""Which device of the catalog a table means by a GPU, and the machine it stands in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from gpusim.errors import SpecError
from gpusim.silicon.made_up import made_up
from gpusim.spec.device import DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.names import names, read
from gpusim.spec.one_gpu import one_gpu
from gpusim.spec.topology import GpuNodeSpec, TopologySpec

_PAIRWISE: Final = "pairwise"


def device_name(gpu: str) -> str | None:
    """Return the device of the catalog that a table calls *gpu*; None if there is none.

    Letters and digits decide: ``h100_sxm`` is ``h100-sxm``, ``rtx4090`` is ``rtx-4090``. A shorter name means the SXM module,
    then the largest memory: ``a100_sxm`` is ``a100-sxm-80gb``. A longer name is the device with whose name it begins.
    ``a100_pairwise`` means PCIe cards that bridges join in pairs.
    """
    wanted = letters_of(gpu).removesuffix(_PAIRWISE)
    module = "pcie" if is_pairwise(gpu) else "sxm"
    known = {letters_of(name): name for name in names("device")}
    if wanted in known:
        return known[wanted]
    longer = [name for letters, name in known.items() if letters.startswith(wanted)]
    if wanted and longer:
        return max(longer, key=lambda name: (module in name, _capacity(name), name))
    shorter = [name for name in known if wanted.startswith(name) and not wanted[len(name) :][:1].isdigit()]
    return known[max(shorter, key=len)] if shorter else None


def is_pairwise(gpu: str) -> bool:
    """Say whether a table means cards that NVLink bridges join in pairs."""
    return letters_of(gpu).endswith(_PAIRWISE)


def named_devices(assignments: Sequence[str]) -> dict[str, DeviceSpec]:
    """Return the devices of ``GPU=DEVICE`` pairs, by GPU; a device is a name or the path of a file.

    Raises:
        SpecError: If a pair is written otherwise, or there is no such device.
    """
    found = {}
    for text in assignments:
        gpu, equals, device = text.partition("=")
        if not equals or not gpu or not device:
            raise SpecError(f"{text!r}: write GPU=DEVICE, e.g. h100_sxm=my-h100.yaml")
        found[gpu] = validate(DeviceSpec, read("device", device))
    return found


def letters_of(name: str) -> str:
    """Return the letters and digits of *name*, small: what names are compared by."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _capacity(name: str) -> float:
    return validate(DeviceSpec, read("device", name)).memory.capacity


def machine_of(device: DeviceSpec, num_gpus: int, num_nodes: int = 1, *, pairwise: bool = False) -> TopologySpec:
    """Return a machine with *num_gpus* of *device*, or more: of the catalog the largest, else one of our own making.

    Several, of *num_gpus* each, are always of our own making, and so are those with bridges between pairs of cards.
    """
    if num_gpus == num_nodes == 1:
        document = one_gpu(device.name, device.host_link)
        document["nodes"][0]["device"] = device
        return TopologySpec.model_validate(document)
    known = [] if num_nodes > 1 or pairwise else [found for found in _machines(device.name) if found[0] >= num_gpus]
    if not known:
        return TopologySpec.model_validate(made_up(device, num_gpus, num_nodes, pairwise=pairwise))
    spec = max(known, key=lambda found: found[0])[1]
    nodes = [
        node.model_copy(update={"device": device}) if isinstance(node, GpuNodeSpec) else node for node in spec.nodes
    ]
    return spec.model_copy(update={"nodes": nodes})


def _machines(device: str) -> Iterator[tuple[int, TopologySpec]]:
    """Yield the topologies of the catalog all of whose GPUs are *device*, each with their number."""
    for name in names("topology"):
        spec = validate(TopologySpec, read("topology", name))
        gpus = [node for node in spec.nodes if isinstance(node, GpuNodeSpec)]
        if all(node.device == device for node in gpus):
            yield sum(node.count or 1 for node in gpus), spec
