"""Parameters of collectives: NCCL, and the all-reduces that engines bring."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gpusim.spec.base import Spec
from gpusim.units import Bytes, BytesPerS, Seconds, us


class RingLawSpec(Spec):
    """NCCL's rings and, where switches add up, its all-reduce in them."""

    t0: Seconds = Field(ge=0)
    """Launch, and whatever else every call pays."""
    t_hop: Seconds = Field(ge=0)
    """Of one step of the low-latency protocol."""
    t_spread: Seconds = Field(default=0.0, ge=0)
    """Extra when all channels are in use."""
    ll_efficiency: float = Field(gt=0, le=1)
    """Achieved / peak of the links with the low-latency protocol, whose data share each store with a flag."""
    ll_host_factor: float = Field(default=1.0, gt=0, le=1)
    """Part of that which is left when its small stores pass a CPU."""
    copy_share: float = Field(default=0.0, ge=0)
    """What a rank copies by itself, in steps of the ring: of its own piece in, of the last one out."""
    t_simple: Seconds = Field(ge=0)
    """Extra start of the bandwidth protocol."""
    t_hop_simple: Seconds = Field(ge=0)
    """Of one step of the bandwidth protocol."""
    link_efficiency: float = Field(gt=0, le=1)
    """Achieved / peak of the links at large messages."""
    t_ll128: Seconds = Field(default=0.0, ge=0)
    """Extra start of the protocol with one flag for 120 bytes."""
    t_hop_ll128: Seconds | None = Field(default=None, ge=0)
    """Of one step of it; None: 1.9 us, the figure of NCCL's own table."""
    t_loop: Seconds = Field(default=0.0, ge=0)
    """Of one chunk on every channel that is added up in the switches."""
    switch_efficiency: float = Field(default=1.0, gt=0, le=1)
    """Achieved / peak of the links when the switches add up."""


class PairsLawSpec(Spec):
    """NCCL's sends and receives between pairs, one or all at once."""

    t0: Seconds = Field(ge=0)
    """Fixed time of a call."""
    t_peer: Seconds = Field(ge=0)
    """Per rank beyond two."""
    channel_bandwidth: BytesPerS = Field(gt=0)
    """Of one channel, which has a small message to itself."""
    pair_efficiency: float = Field(gt=0, le=1)
    """Achieved / peak of the way between two ranks that send to each other at once."""
    all_efficiency: float = Field(gt=0, le=1)
    """Achieved / peak of the fullest link when all pairs send."""


class NcclLawSpec(Spec):
    """NCCL: nobody's own, any engine uses it."""

    tuning: Literal["volta", "ampere", "hopper", "blackwell"]
    """By which column of its table NCCL chooses among its protocols."""
    ring: RingLawSpec
    pairs: PairsLawSpec
    t_network: Seconds = Field(default=13 * us, ge=0)
    """Extra for each step between machines: 23.8 us to send from one A100 machine to another, 10.7 us within."""


class SymmetricMemoryLawSpec(Spec):
    """All-reduce in a buffer that all ranks share, for what an engine finds too large for its own kernel."""

    max_bytes: dict[int, Bytes]
    """The largest, by number of ranks."""
    multicast_ranks: list[int]
    """Numbers of ranks for which the switches add up."""
    t0: Seconds = Field(ge=0)
    """Fixed time of a call."""
    multicast_efficiency: float = Field(gt=0, le=1)
    """Achieved / peak of the links where the switches add up."""
    t_two_shot: Seconds = Field(default=0.0, ge=0)
    """Extra where the ranks add up."""
    two_shot_efficiency: float = Field(default=1.0, gt=0, le=1)
    """Likewise, where the ranks add up."""
    copies: float = Field(default=2.0, ge=0)
    """Passes over the buffer through device memory: in, and out again."""


class EngineAllReduceLawSpec(Spec):
    """An inference engine's own all-reduce: one-shot or two-shot over peer memory."""

    t0: Seconds = Field(ge=0)
    """Fixed time of a call."""
    t_peer: Seconds = Field(ge=0)
    """Per further rank."""
    t_spread: Seconds = Field(default=0.0, ge=0)
    """Extra once the buffer is spread over all thread blocks."""
    one_shot_efficiency: float = Field(gt=0, le=1)
    """Achieved / peak of the links when every rank reads all others' data."""
    pair_efficiency: float = Field(default=1.0, gt=0, le=1)
    """Achieved / peak at which one rank reads another's."""
    t_barrier: Seconds = Field(ge=0)
    """Second synchronisation of the two-shot form."""
    two_shot_efficiency: float = Field(gt=0, le=1)
    """Achieved / peak of the links in two shots."""
    two_shot_from: dict[int, Bytes] = Field(default_factory=dict)
    """From which size on two shots are taken, by number of ranks; empty: the faster one."""
    max_bytes: dict[int, Bytes]
    """Messages of this size or larger go elsewhere, by number of ranks; so do those of any number that is not here."""
    symmetric: SymmetricMemoryLawSpec | None = None
    """Where larger ones go first; None, or too large for that too: to NCCL."""
