"""WhatIfSpec: the same scenario on a machine or with a host that is faster or slower in one respect."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from gpusim.spec.base import Spec
from gpusim.spec.device import DeviceSpec
from gpusim.spec.engine_profile import EngineProfile
from gpusim.spec.topology import GpuNodeSpec, NodeSpec, TopologySpec

RATES: Final = ("hbm_bandwidth", "link_bandwidth", "flops")
"""Factors on rates: above 1 is faster."""
TIMES: Final = ("link_latency", "launch", "host")
"""Factors on times: above 1 is slower."""
FACTORS: Final = ("hbm_bandwidth", "flops", "link_bandwidth", "link_latency", "launch", "host")

_HOST_TIMES: Final = (
    "step",
    "sequence",
    "candidates",
    "overlapped_step",
    "overlapped_sequence",
    "request",
    "token",
    "jitter",
)


class WhatIfSpec(Spec):
    """Factors on what is achieved, as stated and as measured; kernels, tiles and splits stay those of the stated device."""

    hbm_bandwidth: float = Field(default=1.0, gt=0)
    """On the bandwidth of the GPUs' memory."""
    flops: float = Field(default=1.0, gt=0)
    """On what the processors do a second: matrix units, everything else SMs compute and take in, L2."""
    link_bandwidth: float = Field(default=1.0, gt=0)
    """On the bandwidth of all links: between GPUs, to hosts, of the network."""
    link_latency: float = Field(default=1.0, gt=0)
    """On the latency of all links, and on the time of each step or signal between ranks of a collective."""
    launch: float = Field(default=1.0, gt=0)
    """On the fixed times of kernels and collectives: launches, splits, work items."""
    host: float = Field(default=1.0, gt=0)
    """On the host's and the API's times of the engine profile."""

    @property
    def is_neutral(self) -> bool:
        """Whether nothing is changed."""
        return self == UNCHANGED

    def machine(self, topology: TopologySpec) -> TopologySpec:
        """Return *topology*, its devices written out, with rates and latencies changed."""
        if self.is_neutral:
            return topology
        nodes = [self._node(node) for node in topology.nodes]
        links = [
            entry.model_copy(
                update={
                    "bandwidth": entry.bandwidth * self.link_bandwidth,
                    "back_bandwidth": entry.back_bandwidth and entry.back_bandwidth * self.link_bandwidth,
                    "latency": entry.latency * self.link_latency,
                }
            )
            for entry in topology.links
        ]
        return topology.model_copy(update={"nodes": nodes, "links": links})

    def profile(self, profile: EngineProfile) -> EngineProfile:
        """Return *profile* with its times changed."""
        if self.host == 1.0:
            return profile
        return profile.model_copy(update={name: getattr(profile, name) * self.host for name in _HOST_TIMES})

    def _node(self, node: NodeSpec) -> NodeSpec:
        if not isinstance(node, GpuNodeSpec) or not isinstance(node.device, DeviceSpec):
            return node
        device = node.device
        memory = device.memory.model_copy(update={"bandwidth": device.memory.bandwidth * self.hbm_bandwidth})
        peak = {dtype: rate * self.flops for dtype, rate in device.compute.peak.items()}
        compute = device.compute.model_copy(update={"peak": peak})
        return node.model_copy(update={"device": device.model_copy(update={"memory": memory, "compute": compute})})


UNCHANGED: Final = WhatIfSpec()
