"""Collectives of a step: how many bytes ranks exchange, and which ranks; no time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from gpusim.model.arrays import Size

Among: TypeAlias = Literal["tensor", "expert"]
"""Which ranks take part in a collective: those of a replica, or all over which experts are dealt."""


@dataclass(frozen=True, slots=True)
class AllReduce:
    """Sum of a buffer over all ranks."""

    name: str
    size_bytes: Size
    """The full buffer on each rank."""
    among: Among = "tensor"


@dataclass(frozen=True, slots=True)
class AllGather:
    """Concatenation of all ranks' buffers on each rank."""

    name: str
    size_bytes: Size
    """The full, gathered buffer."""
    among: Among = "tensor"


@dataclass(frozen=True, slots=True)
class ReduceScatter:
    """Sum of a buffer over all ranks, of which each keeps a part."""

    name: str
    size_bytes: Size
    """The full buffer on each rank."""
    among: Among = "tensor"


@dataclass(frozen=True, slots=True)
class AllToAll:
    """Every rank sends each rank, itself included, another part of its buffer."""

    name: str
    size_bytes: Size
    """The full buffer on each rank."""
    among: Among = "tensor"


@dataclass(frozen=True, slots=True)
class SendRecv:
    """The first rank sends the second a buffer."""

    name: str
    size_bytes: Size
    among: Among = "tensor"


Collective: TypeAlias = AllReduce | AllGather | ReduceScatter | AllToAll | SendRecv
