"""Machines for GPUs of which the catalog has none with as many as were measured together."""

from __future__ import annotations

from typing import Any, Final

from gpusim.spec.device import DeviceSpec
from gpusim.spec.one_gpu import one_gpu

_NVLINK: Final = {"kind": "nvlink", "efficiency": 0.8, "latency": "1 us"}
"""As NVSwitches of the catalog: NCCL counts 0.8 of the raw rate."""
_NIC: Final = {"kind": "network", "bandwidth": "12.5 GB/s", "efficiency": 0.62, "latency": "2 us"}
"""100 Gbit/s, of which the A100 machines that were measured reach 7.7 GB/s from one to another."""


def made_up(device: DeviceSpec, num_gpus: int, num_nodes: int, *, pairwise: bool = False) -> dict[str, Any]:
    """Return *num_nodes* machines of *num_gpus* each, as file data: behind a switch, or on a host where there are no links.

    With *pairwise* the GPUs' links are bridges, each to one other GPU.

    Every GPU has a NIC of its own where there are several machines.
    """
    nodes: list[dict[str, Any]] = [{"kind": "switch", "name": "network"}] if num_nodes > 1 else []
    links: list[dict[str, Any]] = []
    one = one_gpu(device.name, device.host_link)
    for node in range(num_nodes):
        gpus, host, switch = f"node{node}gpu", f"node{node}cpu", f"node{node}switch"
        nodes += [{"kind": "gpu", "name": gpus, "count": num_gpus, "device": device}]
        nodes += [{**one["nodes"][1], "name": host}]
        links += [{**one["links"][0], "between": [f"{gpus}*", host]}]
        if device.link_bandwidth > 0 and pairwise:
            pairs = [[f"{gpus}{number}", f"{gpus}{number + 1}"] for number in range(0, num_gpus - 1, 2)]
            links += [{**_NVLINK, "between": None, "pairs": pairs, "bandwidth": device.link_bandwidth}] if pairs else []
        elif device.link_bandwidth > 0 and num_gpus > 1:
            nodes += [{"kind": "switch", "name": switch}]
            links += [{**_NVLINK, "between": [f"{gpus}*", switch], "bandwidth": device.link_bandwidth}]
        if num_nodes > 1:
            nics = f"node{node}nic"
            nodes += [{"kind": "nic", "name": nics, "count": num_gpus}]
            pairs = [[f"{gpus}{number}", f"{nics}{number}"] for number in range(num_gpus)]
            links += [{**one["links"][0], "between": None, "pairs": pairs}]
            links += [{**_NIC, "between": [f"{nics}*", "network"]}]
    return {"schema": 1, "name": f"{num_nodes} x {num_gpus} {device.name}", "nodes": nodes, "links": links}
