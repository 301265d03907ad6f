"""Moving KV between GPUs and hosts: copies on the fabric, as everybody else's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import simpy

from gpusim.core.component import Process
from gpusim.hardware.cluster import Cluster

KV_TRANSFER: Final = "KV transfer"
"""What probes are told that a GPU does while its step waits for blocks."""


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
        start = self._cluster.clock.now
        pairs = [pair if to_host else pair[::-1] for pair in self._hosts.items()]
        yield self._copies(num_blocks, pairs, "KV to host" if to_host else "KV from host")
        if self._cluster.probes:
            for gpu in self._hosts:
                self._cluster.gpus[gpu].emit(KV_TRANSFER, start)

    def store(self, num_blocks: int, *, behind: simpy.Event | None) -> Process:
        """Move *num_blocks* to host memory beside steps, once the copy *behind* which it stands is over.

        It loads links and the host's memory, and not that of the GPU: the kernels that it runs beside do not feel it.
        """
        if behind is not None:
            yield behind
        yield self._copies(num_blocks, list(self._hosts.items()), "KV to host", is_read=False)

    def _copies(
        self, num_blocks: int, pairs: Iterable[tuple[str, str]], name: str, *, is_read: bool = True
    ) -> simpy.Event:
        """Begin the copies of all shards; the event comes with the last byte."""
        env, size_bytes = self._cluster.clock.env, num_blocks * self._block_bytes
        copies = [self._cluster.copy(*pair, size_bytes, is_read=is_read, name=name) for pair in pairs]
        return env.all_of([env.process(copy) for copy in copies])
