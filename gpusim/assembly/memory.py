"""Memory of an engine on a cluster: what it fills, and where pooled KV is read from."""

from __future__ import annotations

from gpusim.hardware.cluster import Cluster
from gpusim.placement import EnginePlan
from gpusim.runtime.kernel_timer import RemoteKv


def reserve(cluster: Cluster, plan: EnginePlan) -> None:
    """Take the memory that weights, workspace and KV blocks fill; the banks refuse what does not fit."""
    memory = plan.memory
    for name in plan.gpus:
        bank = cluster.banks[name]
        bank.reserve(memory.weight_bytes, "weights")
        bank.reserve(memory.workspace_bytes, "workspace")
        if not plan.pool:
            bank.reserve(memory.num_blocks * memory.block_bytes, "KV blocks")
    for host in plan.hosts.values():
        if host in cluster.banks:
            cluster.banks[host].reserve(memory.host_bytes, "swapped and offloaded KV")
    shares = _pool_shares(cluster, plan)
    for name, share in shares.items():
        cluster.banks[name].reserve(share * memory.num_blocks * memory.block_bytes, "pooled KV blocks")


def _pool_shares(cluster: Cluster, plan: EnginePlan) -> dict[str, float]:
    """Return the part of the KV that each memory of the pool holds: in proportion to its capacity."""
    capacity = {name: cluster.banks[name].spec.capacity for name in plan.pool}
    total = sum(capacity.values())
    return {name: size / total for name, size in capacity.items()}


def remote_kv(cluster: Cluster, plan: EnginePlan) -> RemoteKv | None:
    """Return where the ranks of an engine read pooled KV; None where it lies beside the weights."""
    shares = _pool_shares(cluster, plan)
    if not shares:
        return None
    fabric = cluster.fabric
    return RemoteKv({gpu: fabric.reads((name, gpu, share) for name, share in shares.items()) for gpu in plan.gpus})


def kv_bandwidth(cluster: Cluster, plan: EnginePlan, remote: RemoteKv | None) -> float:
    """Return the peak rate at which a rank reads KV, bytes/s."""
    if remote is None:
        return cluster.gpus[plan.gpus[0]].spec.memory.bandwidth
    return 1 / max(cluster.fabric.peak_s(loads) for loads in remote.loads.values())
