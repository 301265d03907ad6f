"""What memories and links count of a run, to hold bandwidth in use against."""

from __future__ import annotations

import numpy as np
import pytest

from gpusim.core.clock import TICKS_PER_S
from gpusim.hardware.cluster import Cluster
from gpusim.results.summary import RunRecord
from gpusim.results.timeline import timeline


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


def check_use(record: RunRecord, cluster: Cluster) -> None:
    """Hold the integral of bandwidth in use against what was moved; it is never below 0 or above the peak."""
    expected, drawn = busy_at_peak(cluster), timeline(record)
    assert drawn is not None
    assert set(record.use.parts) == set(drawn.use) == set(expected)
    for kind, busy_s in expected.items():
        use = record.use.parts[kind]
        assert use @ np.diff(record.use.edges_ps) / TICKS_PER_S * len(busy_s) == pytest.approx(sum(busy_s), rel=1e-9)
        # A bin of a microsecond holds some kernels and flows, and each may end half a tick early.
        assert -1e-9 < use.min() <= use.max() < 1.0 + 1e-5
        # Its edges are rounded to the clock.
        assert drawn.use[kind] @ np.diff(drawn.edges_s) * len(busy_s) == pytest.approx(sum(busy_s), rel=1e-6)
