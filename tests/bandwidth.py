"""What memories and links count of a run, to hold bandwidth in use against."""

from __future__ import annotations

import numpy as np
import pytest

from gpusim.hardware.cluster import Cluster
from gpusim.results.timeline import Timeline


def busy_at_peak(cluster: Cluster) -> dict[str, list[float]]:
    """Return of each kind of memory and link the seconds at peak bandwidth of all of them that moved anything."""
    banks = {
        "HBM": [gpu.memory for gpu in cluster.gpus.values()],
        "host memory": [host.memory for host in cluster.hosts.values() if host.memory is not None],
        "memory pool": [pool.memory for pool in cluster.pools.values()],
    }
    found = {
        kind: [(bank.bytes_out + bank.paced_bytes) / bank.peak_bandwidth for bank in each]
        for kind, each in banks.items()
    }
    moved = cluster.fabric.moved_bytes()
    for link in cluster.fabric.links:
        found.setdefault(link.kind, []).append(moved[link.name] / link.bandwidth)
    used = {kind: [busy_s for busy_s in each if busy_s] for kind, each in found.items()}
    return {kind: each for kind, each in used.items() if each}


def check_use(timeline: Timeline, cluster: Cluster) -> None:
    """Hold the integral of bandwidth in use against what was moved; it is never below 0 or above the peak."""
    expected = busy_at_peak(cluster)
    assert set(timeline.use) == set(expected)
    for kind, busy_s in expected.items():
        use = timeline.use[kind]
        assert use @ np.diff(timeline.edges_s) * len(busy_s) == pytest.approx(sum(busy_s), rel=1e-9)
        assert -1e-9 < use.min() <= use.max() < 1.0 + 1e-9
