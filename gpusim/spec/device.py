"""DeviceSpec: one GPU as its data sheet and measurements describe it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from gpusim.spec.base import Dtype, SchemaNumber, Spec
from gpusim.spec.laws import DeviceLawsSpec
from gpusim.units import Bytes, BytesPerS, FlopPerS, Hertz

DramStandard = Literal["HBM2", "HBM2e", "HBM3", "HBM3e", "HBM4", "GDDR6", "GDDR6X", "GDDR7"]
HostLink = Literal["pcie3", "pcie4", "pcie5", "pcie6", "c2c"]
"""PCIe of a generation, 16 lanes; or NVLink-C2C."""

_PSEUDO_CHANNELS_OF_STACK: Final = {"HBM2": 16, "HBM2e": 16, "HBM3": 32, "HBM3e": 32, "HBM4": 64}
"""JEDEC: 8, 16 and 32 channels of two pseudo-channels each (JESD235, JESD238, JESD270-4)."""


class _MemorySpec(Spec):
    """What all memories state."""

    capacity: Bytes = Field(gt=0)
    """Sold in binary units: a "GB" on a data sheet is a GiB here."""
    visible: float = Field(default=0.985, gt=0, le=1)
    """Part of the capacity that a program is shown as the total, without what driver, page tables and ECC take. The
    default lies between what is reported of GeForce (0.980) and of HBM (0.987 to 0.992); ECC in GDDR6 takes 1/16 more."""

    @property
    def visible_bytes(self) -> float:
        """Bytes that a program is shown as the total."""
        return self.visible * self.capacity


class ChannelMemorySpec(_MemorySpec):
    """Device memory as a bank of channels, all stacks or chips together."""

    kind: Literal["channels"]
    standard: DramStandard
    """JEDEC family; its timings give the factor of an access pattern relative to sequential."""
    channels: int = Field(ge=1)
    """Pseudo-channels (HBM) or channels (GDDR) of the whole device."""
    bandwidth: BytesPerS = Field(gt=0)
    """Peak, reads and writes together, all channels."""
    efficiency: float | None = Field(default=None, gt=0, le=1)
    """Achieved / peak on long reads. Measured; without a measurement the closed form of the DRAM timings."""
    granule: Bytes = Field(default=512.0, ge=32)
    """Contiguous bytes on one channel before the address map moves to the next."""
    map: Literal["rotate", "hash"] = "rotate"
    """Granules rotate over the channels, skewed by one each stripe, or are hashed (for bank studies)."""

    @property
    def stacks(self) -> int:
        """HBM stacks; 1 where the channels are of chips (GDDR), or fill no whole number of stacks."""
        of_stack = _PSEUDO_CHANNELS_OF_STACK.get(self.standard, self.channels)
        return self.channels // of_stack if self.channels % of_stack == 0 else 1


class AggregateMemorySpec(_MemorySpec):
    """Device memory whose structure is unknown: one server."""

    kind: Literal["aggregate"]
    bandwidth: BytesPerS = Field(gt=0)
    """Peak, reads and writes together."""
    efficiency: float | None = Field(default=None, gt=0, le=1)
    """Achieved / peak on long reads; without a measurement 0.9, the middle of the measured range of DRAM standards."""


MemorySpec = Annotated[ChannelMemorySpec | AggregateMemorySpec, Field(discriminator="kind")]


class ComputeSpec(Spec):
    """The processors of one GPU."""

    sm_count: int = Field(ge=1)
    """Streaming multiprocessors, compute units on AMD; elsewhere what multiplies as much per cycle as an SM of an A100:
    1,024 multiply-adds of 16 bit. So much work is in flight at once, and so often counts what one SM can take in."""
    boost_clock: Hertz = Field(gt=0)
    """Highest clock."""
    threads_per_sm: int = Field(default=2048, ge=1)
    """That one SM holds at once: 2,048 on data-centre GPUs, 1,536 on those with GDDR since Ampere."""
    peak: dict[Dtype, FlopPerS]
    """Peak matrix rate by operand type, dense (no sparsity)."""

    @model_validator(mode="after")
    def _has_16_bit_rate(self) -> ComputeSpec:
        if "bf16" not in self.peak and "fp16" not in self.peak:
            raise ValueError("peak needs a bf16 or fp16 entry, the rate other types fall back to")
        if any(rate <= 0 for rate in self.peak.values()):
            raise ValueError("peak rates must be positive")
        return self


class DeviceSpec(Spec):
    """One GPU. Every number of a catalog file carries its source in a comment beside it."""

    schema_number: SchemaNumber = Field(default=1, alias="schema")
    """Version of the file format: 1."""
    name: str
    """What topologies and reports call it."""
    vendor: str = ""
    """Who makes it."""
    family: str = ""
    """Architecture, such as ampere; decides which measured device lends its laws to an unmeasured one."""
    source: str = ""
    """Where the values come from."""
    memory: MemorySpec
    """Capacity, bandwidth, and channels where they are known."""
    l2: Bytes = Field(gt=0)
    """Last-level cache shared by all SMs."""
    compute: ComputeSpec
    link_bandwidth: BytesPerS = Field(default=0.0, ge=0)
    """Scale-up links, per direction, all links of the device together, peak; 0 without. For reference: what links a
    GPU really has is stated by the topology."""
    host_link: HostLink = "pcie4"
    """How it meets its host. For reference, and for the one-GPU machine that a device's name stands for."""
    copy_engines: int = Field(default=2, ge=1)
    """Copies between memories that can be in flight at once; more wait for their turn."""
    laws: DeviceLawsSpec | None = None
    """Measured kernel laws; absent: by the written default rule (`docs/default-laws.md`)."""
