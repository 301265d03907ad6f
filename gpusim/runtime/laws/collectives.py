"""All-reduce, all-gather and the like: which algorithm, its fixed time, and the traffic it puts on the links.

An algorithm sends bytes along the arrows of a pattern. The traffic is laid on the routes of the topology, and the fullest
edge decides: ``b / link`` in the formulas is not a division. On a switch, or where every pair has its own link, it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from gpusim.model.arrays import Size

Pattern: TypeAlias = Literal["ring", "all_pairs", "pair"]
"""Every rank to the next; every rank to all others; the first rank to the second."""
Operation: TypeAlias = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv"]
Usable: TypeAlias = "bool | np.ndarray[tuple[int, ...], np.dtype[np.bool_]]"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One way to do a collective."""

    name: str
    fixed_s: Size
    """In seconds; like `bytes_per_pair` one number, or one for each of many sizes."""
    pattern: Pattern
    bytes_per_pair: Size
    """Sent along each arrow of the pattern."""
    efficiency: float
    """Achieved / peak of the fullest link."""
    exposed_bytes: Size = 0.0
    """As many bytes more take their time on the links, though nothing is sent: what a rank copies by itself between two
    steps, and the first pieces of a pipeline that fills."""
    pair_efficiency: float | None = None
    """Achieved / peak of the way from the first rank to the second, which may hold it longer than the fullest link; None: no
    such limit."""
    usable: Usable = True
    """Whether the software would take it; of several the fastest is taken."""


@dataclass(frozen=True, slots=True)
class Connection:
    """How the ranks of a group reach each other."""

    num_ranks: int
    """At least two."""
    is_direct: bool
    """Scale-up links alone join every pair."""
    is_switched: bool
    """And lead over switches, which can add up what passes."""
    over_hosts: bool
    """Some routes lead through a CPU."""
    num_nodes: int
    """Machines with a network between them."""
    ring_bandwidth: float
    """Peak of the narrowest link of a ring through all ranks, bytes/s."""
    hbm_bandwidth: float
    """Peak of one rank's memory."""


def ring_steps(operation: Operation, num_ranks: int) -> int:
    """Pieces of ``b / num_ranks`` that every rank of a ring sends, one after the other."""
    return (2 if operation == "all_reduce" else 1) * (num_ranks - 1)


def ring_bytes(operation: Operation, num_ranks: int, size_bytes: Size) -> Size:
    """Bytes every rank of a ring sends to its neighbour."""
    return ring_steps(operation, num_ranks) / num_ranks * size_bytes


def ideal_algorithms(operation: Operation, num_ranks: int, size_bytes: Size, hop_s: float) -> list[Algorithm]:
    """Alpha-beta: all links at peak bandwidth, each step paying the latency of its route."""
    if operation == "send_recv":
        return [Algorithm("send", hop_s, "pair", size_bytes, 1.0)]
    if operation == "all_to_all":
        return [Algorithm("pairs", hop_s, "all_pairs", size_bytes / num_ranks, 1.0)]
    sent = ring_bytes(operation, num_ranks, size_bytes)
    return [Algorithm("ring", ring_steps(operation, num_ranks) * hop_s, "ring", sent, 1.0)]
