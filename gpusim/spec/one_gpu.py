"""The machine that the name of a device stands for where a topology is asked for: one of it, and its host."""

from __future__ import annotations

from typing import Any, Final

from gpusim.spec.device import HostLink

_PCIE_PAYLOAD: Final = 0.914
"""24 B of header and check on 256 B of payload (Intel AN708)."""
_HOST_LINKS: Final[dict[HostLink, dict[str, Any]]] = {
    # 16 lanes, after 128b/130b coding, per direction; latency one way, recalled
    "pcie3": {"kind": "pcie", "bandwidth": "15.75 GB/s", "efficiency": _PCIE_PAYLOAD, "latency": "800 ns"},
    "pcie4": {"kind": "pcie", "bandwidth": "31.51 GB/s", "efficiency": _PCIE_PAYLOAD, "latency": "800 ns"},
    "pcie5": {"kind": "pcie", "bandwidth": "63.02 GB/s", "efficiency": _PCIE_PAYLOAD, "latency": "600 ns"},
    # Flits of 256 B carry 236 B: 118 of 128 GB/s, counted in the rate
    "pcie6": {"kind": "pcie", "bandwidth": "118 GB/s", "efficiency": 1.0, "latency": "600 ns"},
    # GH200 data sheet; the efficiency and latency are recalled, with low confidence
    "c2c": {"kind": "c2c", "bandwidth": "450 GB/s", "efficiency": 0.85, "latency": "500 ns"},
}
_SERVER: Final = {"kind": "aggregate", "capacity": "256 GiB", "bandwidth": "204.8 GB/s"}
"""Ours: as in the topology single-gpu, 8 channels of DDR4-3200, peak."""
_GRACE: Final = {"kind": "aggregate", "capacity": "480 GiB", "bandwidth": "512 GB/s"}
"""GH200 data sheet: LPDDR5X, peak."""


def one_gpu(device: str, host_link: HostLink) -> dict[str, Any]:
    """Return the topology of one GPU of the catalog as file data.

    Args:
        device: Its name.
        host_link: How it meets its host.
    """
    memory = _GRACE if host_link == "c2c" else _SERVER
    return {
        "schema": 1,
        "name": device,
        "source": f"one {device} in a server of our own making; its host link by the device's host_link",
        "nodes": [
            {"kind": "gpu", "name": "gpu0", "device": device},
            {"kind": "host", "name": "cpu0", "memory": dict(memory)},
        ],
        "links": [{"between": ["gpu0", "cpu0"], **_HOST_LINKS[host_link]}],
    }
