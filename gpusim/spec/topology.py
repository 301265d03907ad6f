"""TopologySpec: the machine as a graph of GPUs, switches, hosts, NICs and memory pools.

One entry of `nodes` or `links` can stand for many: ``count`` numbers nodes, ``gpu*`` names all that match. A link is
one full-duplex connection: each direction has the stated bandwidth.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gpusim.spec.base import SchemaNumber, Spec
from gpusim.spec.device import DeviceSpec, MemorySpec
from gpusim.units import BytesPerS, Seconds

LinkKind = Literal["nvlink", "xgmi", "ici", "c2c", "pcie", "socket", "network"]


class GpuNodeSpec(Spec):
    """GPUs of one kind: ``name: gpu, count: 8`` makes gpu0 to gpu7."""

    kind: Literal["gpu"]
    name: str
    """Or, with count, what the numbered names begin with."""
    count: int | None = Field(default=None, ge=1)
    """Absent: one node with exactly this name."""
    device: str | DeviceSpec
    """Catalog name, path of a device file, or the device itself."""


class SwitchNodeSpec(Spec):
    """Switches (NVSwitch, PCIe, network): they forward and add no limit of their own."""

    kind: Literal["switch"]
    name: str
    """Or, with count, what the numbered names begin with."""
    count: int | None = Field(default=None, ge=1)
    """Absent: one node with exactly this name."""


class HostNodeSpec(Spec):
    """A CPU socket with its memory; forwards PCIe traffic."""

    kind: Literal["host"]
    name: str
    """Or, with count, what the numbered names begin with."""
    count: int | None = Field(default=None, ge=1)
    """Absent: one node with exactly this name."""
    memory: MemorySpec | None = None
    """Absent: copies to it are limited by the links only."""


class NicNodeSpec(Spec):
    """A network interface; forwards."""

    kind: Literal["nic"]
    name: str
    """Or, with count, what the numbered names begin with."""
    count: int | None = Field(default=None, ge=1)
    """Absent: one node with exactly this name."""


class MemoryNodeSpec(Spec):
    """A memory pool on the fabric, without processors."""

    kind: Literal["memory"]
    name: str
    """Or, with count, what the numbered names begin with."""
    count: int | None = Field(default=None, ge=1)
    """Absent: one node with exactly this name."""
    memory: MemorySpec
    """How much and how fast."""


NodeSpec = Annotated[
    GpuNodeSpec | SwitchNodeSpec | HostNodeSpec | NicNodeSpec | MemoryNodeSpec, Field(discriminator="kind")
]


class LinksSpec(Spec):
    """Full-duplex links between every node of one group and every node of another, or between listed pairs."""

    kind: LinkKind
    """What it is. A way over nvlink, xgmi and ici alone comes before any other."""
    between: tuple[str, str] | None = None
    """Two names or patterns; every match of the first is connected to every match of the second."""
    pairs: list[tuple[str, str]] | None = None
    """Or the connected pairs, each once."""
    bandwidth: BytesPerS = Field(gt=0)
    """Peak after line coding, per direction, of one link."""
    back_bandwidth: BytesPerS | None = Field(default=None, gt=0)
    """From the second node to the first, where it differs."""
    count: int = Field(default=1, ge=1)
    """Parallel links between the same two nodes; they carry one flow together."""
    latency: Seconds = Field(ge=0)
    """One way, of this hop."""
    efficiency: float = Field(default=1.0, gt=0, le=1)
    """Payload / peak on large transfers: packet headers and flow control."""

    @model_validator(mode="after")
    def _says_what_it_connects(self) -> LinksSpec:
        if (self.between is None) == (self.pairs is None):
            raise ValueError("say either between: [a, b] or pairs: [[a, b], ...]")
        return self


class TopologySpec(Spec):
    """One machine."""

    schema_number: SchemaNumber = Field(default=1, alias="schema")
    """Version of the file format: 1."""
    name: str
    """What reports call it."""
    source: str = ""
    """Where the values come from."""
    nodes: list[NodeSpec] = Field(min_length=1)
    """What the links connect."""
    links: list[LinksSpec] = []
    """What data move over."""
