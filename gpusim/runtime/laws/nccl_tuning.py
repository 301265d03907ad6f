"""Which protocol NCCL takes: its own estimate of what each would take, and the figures it estimates with.

NCCL does not measure. It adds a latency and ``bytes / bandwidth`` from a table by GPU generation and kind of link, and takes the
smallest sum, `ncclTopoTuneModel` and `ncclTopoGetAlgoTime` in its ``src/graph/tuning.cc``. The table here is that of versions
2.27 to 2.29. Trees, which it never prefers on up to eight GPUs of one machine, are left out.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import numpy as np

from gpusim.core.arrays import FloatArray
from gpusim.runtime.laws.collectives import Connection, Operation, ring_steps
from gpusim.units import GB, us

Protocol: TypeAlias = Literal["ll", "ll128", "simple", "nvls"]
Tuning: TypeAlias = Literal["volta", "ampere", "hopper", "blackwell"]

_BASE: Final[dict[Protocol, float]] = {"ll": 6.6 * us, "ll128": 14.0 * us, "simple": 8.4 * us}
_NVLINK_HOP: Final[dict[Protocol, float]] = {"ll": 0.6 * us, "ll128": 1.9 * us, "simple": 3.4 * us}
_PCI_HOP: Final[dict[Protocol, float]] = {"ll": 1.0 * us, "ll128": 2.5 * us, "simple": 5.7 * us}
_NETWORK_HOP: Final[dict[Protocol, float]] = {"ll": 2.7 * us, "ll128": 4.0 * us, "simple": 14.0 * us}
_NVLS: Final = 25.0 * us
_LL_BANDWIDTH: Final = {"volta": 39.0 * GB, "ampere": 87.7 * GB, "hopper": 141.0 * GB, "blackwell": 282.0 * GB}
_LL_BANDWIDTH_OVER_NETWORK: Final = 39.0 * GB
_NVLS_EFFICIENCY: Final = {"hopper": 0.85 * 15 / 16, "blackwell": 0.74 * 31 / 32}
"""One channel in 16, or 32, is not counted."""
NVLS_CHANNELS: Final = {"hopper": 16, "blackwell": 32}
_LINK_EFFICIENCY: Final = 0.8
"""What NCCL counts of NVLink: 20 of 25 GB/s of the third generation, 20.6 of the fourth, 40.1 of 50 of the fifth."""


def taken(
    operation: Operation, size_bytes: FloatArray, ways: Connection, tuning: Tuning, link_efficiency: float
) -> dict[Protocol, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Return, for every protocol NCCL may take, for which sizes (rows,) it takes it.

    Args:
        operation: That a ring can do.
        size_bytes: The full buffer on each rank, (rows,).
        ways: How the ranks are connected.
        tuning: The column of NCCL's table.
        link_efficiency: What rings achieve of links that are not NVLink, which stands for NCCL's own steps of PCIe bandwidth.
    """
    counted = ways.ring_bandwidth * (_LINK_EFFICIENCY if ways.is_direct else link_efficiency)
    low = _LL_BANDWIDTH[tuning] if ways.num_nodes == 1 else _LL_BANDWIDTH_OVER_NETWORK
    bandwidths: dict[Protocol, float] = {"ll": min(low, counted / 2), "simple": counted}
    if ways.is_direct:
        bandwidths["ll128"] = 0.92 * counted
    estimates = {protocol: _ring(operation, protocol, size_bytes, ways, of) for protocol, of in bandwidths.items()}
    if has_nvls(ways, tuning):
        estimates["nvls"] = _nvls(operation, size_bytes, ways, tuning, counted)
    best = np.argmin(list(estimates.values()), axis=0)
    return {protocol: best == number for number, protocol in enumerate(estimates)}


def has_nvls(ways: Connection, tuning: Tuning) -> bool:
    """Say whether the switches add up for NCCL: of three GPUs or more, in one machine."""
    return ways.is_switched and ways.num_ranks > 2 and ways.num_nodes == 1 and tuning in _NVLS_EFFICIENCY


def _ring(
    operation: Operation, protocol: Protocol, size_bytes: FloatArray, ways: Connection, bandwidth: float
) -> FloatArray:
    steps = ring_steps(operation, ways.num_ranks)
    between = ring_steps(operation, ways.num_nodes)
    hop = _NVLINK_HOP if ways.is_direct else _PCI_HOP
    latency = _BASE[protocol] + (steps - between) * hop[protocol] + between * _NETWORK_HOP[protocol]
    return latency + steps / ways.num_ranks * size_bytes / bandwidth


def _nvls(operation: Operation, size_bytes: FloatArray, ways: Connection, tuning: Tuning, counted: float) -> FloatArray:
    n = ways.num_ranks
    bandwidth = counted * _NVLS_EFFICIENCY[tuning]
    algorithm = bandwidth * (n / (n - 1) if operation == "all_reduce" else (n - 1) / n)
    return _NVLS + size_bytes / algorithm


def nvls_loop(size_bytes: FloatArray, num_ranks: int, tuning: Tuning) -> FloatArray:
    """Return the bytes that an all-reduce in the switches moves at a time: a chunk of every channel and rank, (rows,).

    Chunks are 64 KiB, and smaller where there would be too few of them: `calcCollChunking` in ``src/enqueue.cc``.
    """
    chunks = NVLS_CHANNELS[tuning] * num_ranks
    chunk = np.where(size_bytes < 8 * chunks * 65536, 32768, 65536)
    chunk = np.where(size_bytes < 2 * chunks * 32768, 16384, chunk)
    result: FloatArray = chunk * float(chunks)
    return result
