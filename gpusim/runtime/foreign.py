"""Foreign traffic: what else may use the channels and links of an engine.

The answer is about the whole run and errs on the safe side: an engine of which nothing is shared can be folded exactly,
for nothing can ever come between its kernels and their laws.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gpusim.hardware.cluster import Cluster
from gpusim.hardware.fabric import Fabric
from gpusim.runtime.collective import CollectiveGroup
from gpusim.runtime.kernel_timer import RemoteKv

Resources = frozenset[int]
"""Links and memory banks, as the fabric numbers them."""


def used_by_engine(
    cluster: Cluster, gpus: Sequence[str], group: CollectiveGroup | None, remote: RemoteKv | None
) -> Resources:
    """Return what the kernels and collectives of an engine on *gpus* load."""
    used = frozenset(cluster.fabric.memory_resource(gpu) for gpu in gpus)
    if group is not None:
        used |= group.resources()
    if remote is not None:
        used |= frozenset(resource for loads in remote.loads.values() for resource in loads.resources)
    return used


def used_by_swaps(cluster: Cluster, hosts: Mapping[str, str]) -> Resources:
    """Return what KV loads on its way between GPUs and their *hosts*, by GPU.

    It moves between two steps, as flows at either level of detail. So an engine's own never meets its kernels, and that of
    two engines shares links as it should; but kernels and collectives of others are folded only where it cannot meet them.
    """
    ways = [way for pair in hosts.items() for way in (pair, pair[::-1])]
    loads = (cluster.fabric.loads([(*way, 1.0)], memory=True) for way in ways)
    return frozenset(resource for each in loads for resource in each.resources)


def used_by_stores(cluster: Cluster, hosts: Mapping[str, str]) -> Resources:
    """Return what KV that goes to *hosts* beside steps loads: links and the hosts' memory, not that of GPUs."""
    return cluster.fabric.writes((*pair, 1.0) for pair in hosts.items()).resource_set


def do_ranks_meet(fabric: Fabric, remote: RemoteKv | None) -> bool:
    """Say whether the ranks of an engine hold each other up where they read KV from the same memories.

    They read at the same time. If memories and links give all of them together what each alone would take, to the last
    bit, none feels the others, and one flow with the loads of all stands for theirs.
    """
    if remote is None:
        return False
    ranks = list(remote.loads.values())
    together = fabric.together(ranks)
    return any(loads.ideal_s != together.ideal_s or loads.latency_s != together.latency_s for loads in ranks)


def is_alone(own: Resources, others: Iterable[Resources]) -> bool:
    """Say whether nothing of *own* is used by any of *others*."""
    return all(own.isdisjoint(other) for other in others)
