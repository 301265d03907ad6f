"""How the ranks of a group are connected, as the laws of collectives ask for it."""

from __future__ import annotations

from collections.abc import Sequence

from gpusim.hardware.fabric import Fabric
from gpusim.runtime.laws.collectives import Connection
from gpusim.runtime.rings import over_network, rings

Rings = list[tuple[float, tuple[str, ...]]]


def laid_rings(fabric: Fabric, ranks: Sequence[str]) -> Rings:
    """Return the rings NCCL lays through *ranks* with the share of the traffic each carries; see `rings`."""
    nodes = machines(fabric, ranks)
    return rings(ranks, fabric.direct_bandwidth) if len(nodes) == 1 else over_network(nodes)


def machines(fabric: Fabric, ranks: Sequence[str]) -> list[list[str]]:
    """Return *ranks* by machine: those that reach each other without a network."""
    found: list[list[str]] = []
    for rank in ranks:
        near = next((node for node in found if not fabric.passes(node[0], rank, "nic")), None)
        if near is None:
            found.append([rank])
        else:
            near.append(rank)
    return found


def connection(fabric: Fabric, ranks: Sequence[str], ring_bandwidth: float, hbm_bandwidth: float) -> Connection:
    """Return how *ranks* reach each other."""
    pairs = [(a, b) for a in ranks for b in ranks if a != b]
    is_direct = fabric.are_scale_up_connected(ranks)
    return Connection(
        num_ranks=len(ranks),
        is_direct=is_direct,
        is_switched=is_direct and all(fabric.passes(a, b, "switch") for a, b in pairs),
        over_hosts=any(fabric.passes(a, b, "host") for a, b in pairs),
        num_nodes=len(machines(fabric, ranks)),
        ring_bandwidth=ring_bandwidth,
        hbm_bandwidth=hbm_bandwidth,
    )
