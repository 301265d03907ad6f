"""Moving KV between GPUs and hosts: copies on the fabric, as everybody else's."""

from __future__ import annotations

from collections.abc import Mapping

from gpusim.core.component import Process
from gpusim.hardware.cluster import Cluster


class HostMover:
    """Copies blocks of KV between the GPUs of one engine and the memory of their hosts, all GPUs at once.

    Each GPU's shard is one copy: alone it takes the latency of the route and then the bytes over the slowest of PCIe and
    memories. Where GPUs share links, or others use them, they share them fairly.

    Args:
        cluster: The machine.
        hosts: Of each GPU, the node that keeps its blocks.
        block_bytes: Of one block on one GPU.
    """

    def __init__(self, cluster: Cluster, hosts: Mapping[str, str], block_bytes: float) -> None:
        self._cluster = cluster
        self._hosts = dict(hosts)
        self._block_bytes = block_bytes

    def move(self, num_blocks: int, *, to_host: bool) -> Process:
        """Move *num_blocks*, each GPU its shard of them; return when the last byte has arrived."""
        env, size_bytes = self._cluster.clock.env, num_blocks * self._block_bytes
        pairs = [pair if to_host else pair[::-1] for pair in self._hosts.items()]
        yield env.all_of([env.process(self._cluster.copy(*pair, size_bytes)) for pair in pairs])
