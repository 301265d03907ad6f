"""Parameters of the kernel and collective laws, as device files write them.

The laws themselves are in `gpusim.runtime.laws`; every set of values says which measurements it was fitted on.
Efficiencies are fractions of the device's own streaming efficiency (`memory.efficiency`), so that a loss which all
kernels share is stated once.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, model_validator

from gpusim.spec.base import Dtype, Spec, WeightDtype
from gpusim.spec.gemm_law import GemmLawSpec, MatrixSpec
from gpusim.spec.moe_law import MoeLawSpec, MoeLibrary
from gpusim.units import Bytes, BytesPerS, Seconds, us

DEFAULT_ENGINE: Final = "vllm"
"""Whose kernels run where nothing else is said."""


AttentionKernelName = Literal[
    "flash_attention_2",
    "flash_attention_3",
    "flash_attention_3_ampere",
    "flashinfer",
    "flashinfer_cuda_cores",
    "mmha",
    "trtllm_gen",
    "trtllm_unsplit",
    "xqa",
    "xqa_fp8",
]
"""Implementations of decode attention, see `gpusim.runtime.laws.attention_kernels`."""


class AttentionKernelSpec(Spec):
    """Times of one kernel of decode attention."""

    kernel: AttentionKernelName
    """Which implementation: decides what a work item is and how contexts are split."""
    t0: Seconds = Field(ge=0)
    """Launch, and whatever else every call pays."""
    t_item: Seconds = Field(ge=0)
    """Fixed time of one work item on its SM."""
    t_head: Seconds = Field(default=0.0, ge=0)
    """Further fixed time of an item for each query head."""
    item_bandwidth: BytesPerS = Field(gt=0)
    """Whole blocks of KV that one work item computes."""
    t_split: Seconds = Field(ge=0)
    """Extra time when the context is split: the reduction."""
    t_per_split: Seconds = Field(default=0.0, ge=0)
    """Of it, for each split."""
    t_copy: Seconds = Field(default=0.0, ge=0)
    """Launch of copies that transpose queries and outputs, in kernels that need them."""


class AttentionLawSpec(AttentionKernelSpec):
    """Decode attention of one KV dtype."""

    memory_factor: float = Field(gt=0, le=1)
    """Streaming efficiency relative to the device's own."""
    sm_bandwidth: BytesPerS | None = Field(default=None, gt=0)
    """What one SM streams from device memory at most, with as many loads in flight as it has; None: memory limits."""
    other: AttentionKernelSpec | None = None
    """The engine's kernel for calls that the first does not take; None: it takes all."""


class PrefillLawSpec(Spec):
    """Attention with prefill chunks in the call."""

    t0: Seconds = Field(ge=0)
    """Launch, and whatever else every call pays."""
    t_tile: Seconds = Field(ge=0)
    """Fixed time of one tile of queries."""
    t_empty: Seconds = Field(default=0.0, ge=0)
    """Time of a place in the grid without a tile."""
    compute_efficiency: float = Field(gt=0, le=1)
    """Of the peak matrix rate of an SM, while a tile passes over its keys."""
    tile_rows: int = Field(default=64, ge=1)
    """Queries of a tile."""
    decodes: Literal["tiles", "own"] = "tiles"
    """What decodes in the same call are: tiles of the chunks' grid (FlashAttention 2), or computed as without chunks."""


class MlaLawSpec(Spec):
    """Absorbed decode attention of multi-head latent attention, of one type of its cache."""

    t0: Seconds = Field(ge=0)
    t_cta: Seconds = Field(ge=0)
    """Fixed time of one work item."""
    cta_bandwidth: BytesPerS = Field(gt=0)
    """What one work item can stream by itself."""
    heads_per_item: int = Field(ge=1)
    """Query heads that a work item computes."""
    split_rule: Literal["fill", "fixed"] = "fill"
    """How the context is split: to fill the SMs, up to `max_splits` and down to `min_split`; or always in `max_splits`."""
    max_splits: int = Field(default=8, ge=1)
    min_split: int = Field(default=128, ge=1)
    """Tokens below which a context is not split further."""
    block: int = Field(default=64, ge=1)
    """Tokens that a work item reads at once: its last block is as long as any."""
    t_split: Seconds = Field(ge=0)
    """Extra time when the context is split."""
    reduce_bandwidth: BytesPerS | None = Field(default=None, gt=0)
    """What one work item reads of the partial outputs of a split context, which it adds up by itself; None: no matter."""
    memory_factor: float = Field(gt=0, le=1)
    """Streaming efficiency relative to the device's own."""
    compute_efficiency: float = Field(gt=0, le=1)
    """Of the peak matrix rate."""
    query_passes: float = Field(default=1.0, ge=1)
    """How often queries and outputs pass through memory: they are put together and copied round the kernel."""
    t_convert: Seconds = Field(default=0.0, ge=0)
    """Launch of the conversion of the cache to 16 bit, where the kernel knows no narrower type."""
    convert_efficiency: float | None = Field(default=None, gt=0, le=1)
    """Of the device's streaming rate, in that conversion; None: the kernel reads the cache as it is stored."""


class ElementwiseLawSpec(Spec):
    """Norms, rotary embedding, activations, cache writes, sampling: what the device takes for them, whoever wrote them."""

    t0: Seconds = Field(ge=0)
    """First and last instruction of an empty kernel."""
    t_step: Seconds = Field(ge=0)
    """A round trip to L2 with the few instructions round it: a thread that handles several elements pays it for each."""
    issue_efficiency: float = Field(gt=0)
    """Elements an SM handles a cycle, relative to an SM of A100."""
    l2_speedup: float = Field(ge=1)
    """Bandwidth of L2 relative to device memory."""
    l2_fraction: float = Field(gt=0)
    """Part of L2 in which data stays from one kernel to the next."""


ElementwiseKernels = Literal["scalar", "vector"]
"""How element-wise kernels are written: an element a thread and step, as all were in 2023, or 16 bytes of them."""

_SCALAR_ENGINES: Final = frozenset({"sarathi"})


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
    t_loop: Seconds = Field(default=0.0, ge=0)
    """Of one chunk on every channel that is added up in the switches."""
    switch_efficiency: float = Field(default=1.0, gt=0, le=1)
    """Achieved / peak of the links when the switches add up."""


class PairsLawSpec(Spec):
    """NCCL's sends and receives between pairs, one or all at once."""

    t0: Seconds = Field(ge=0)
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
    multicast_efficiency: float = Field(gt=0, le=1)
    t_two_shot: Seconds = Field(default=0.0, ge=0)
    """Extra where the ranks add up."""
    two_shot_efficiency: float = Field(default=1.0, gt=0, le=1)
    copies: float = Field(default=2.0, ge=0)
    """Passes over the buffer through device memory: in, and out again."""


class EngineAllReduceLawSpec(Spec):
    """An inference engine's own all-reduce: one-shot or two-shot over peer memory."""

    t0: Seconds = Field(ge=0)
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
    two_shot_from: dict[int, Bytes] = Field(default_factory=dict)
    """From which size on two shots are taken, by number of ranks; empty: the faster one."""
    max_bytes: dict[int, Bytes]
    """Messages of this size or larger go elsewhere, by number of ranks; so do those of any number that is not here."""
    symmetric: SymmetricMemoryLawSpec | None = None
    """Where larger ones go first; None, or too large for that too: to NCCL."""


class PhysicsSpec(Spec):
    """What all kernels of a device share, whoever wrote them, beside `memory.efficiency`."""

    l2_fraction: float = Field(gt=0)
    """Part of L2 a working set may fill before it is evicted (above 1: partial reuse)."""
    l2_speedup: float = Field(ge=1)
    """Bandwidth of L2 relative to device memory."""
    matrix: MatrixSpec


class EngineLawsSpec(Spec):
    """The kernels of one engine: launch, tiles, splits, and how near they come to what the device can do."""

    attention: dict[Dtype, AttentionLawSpec] = Field(default_factory=dict)
    """By KV dtype."""
    prefill: PrefillLawSpec | None = None
    gemm: dict[WeightDtype, GemmLawSpec] = Field(default_factory=dict)
    """By weight dtype."""
    moe: dict[WeightDtype, dict[MoeLibrary, MoeLawSpec]] = Field(default_factory=dict)
    """By weight dtype, then by whose kernels they are; a run has the first."""
    mla: dict[Dtype, MlaLawSpec] = Field(default_factory=dict)
    """By KV dtype."""
    all_reduce: EngineAllReduceLawSpec | None = None


class FitSpec(Spec):
    """What a law was fitted on, and the error it left; errors are of |predicted / measured - 1|."""

    tables: list[str]
    """Files of the folder."""
    parameters: int = Field(default=0, ge=0)
    """Numbers of the law that were searched, those of the device left out."""
    rows: int = Field(ge=0)
    """Read by the fit."""
    mape: float | None = None
    """Mean over those."""
    p90: float | None = None
    """Their 90th percentile."""
    held_out_rows: int = Field(default=0, ge=0)
    """Of shapes kept out of the fit."""
    held_out_mape: float | None = None
    held_out_p90: float | None = None


class DeviceLawsSpec(Spec):
    """All laws of one device."""

    fitted_on: str
    """Which measurements the values come from."""
    fits: dict[str, FitSpec] = Field(default_factory=dict)
    """By law: its keys joined by dots, as ``engines.vllm.gemm.bf16``."""
    borrowed: dict[str, str] = Field(default_factory=dict)
    """Where the values of laws come from that no data of this device were fitted for, by law or family of laws."""
    physics: PhysicsSpec
    elementwise: ElementwiseLawSpec
    nccl: NcclLawSpec
    engines: dict[str, EngineLawsSpec] = Field(min_length=1)
    """By name; what one was not measured for it borrows from the others, in the order they stand here."""

    @model_validator(mode="after")
    def _has_the_main_kernels(self) -> DeviceLawsSpec:
        for family in ("attention", "gemm"):
            if not any(getattr(laws, family) for laws in self.engines.values()):
                raise ValueError(f"no engine has laws of {family}, which every model needs")
        return self

    def of(self, engine: str) -> LawsSpec:
        """Return the laws that hold where *engine* serves; an engine without any has those of the first.

        An engine with a backend that is not its usual one, as ``sglang-flashinfer``, has the laws of ``sglang`` for the rest.
        """
        names = [name for name in dict.fromkeys((engine, engine.partition("-")[0])) if name in self.engines]
        own = [self.engines[name] for name in names]
        others = [laws for name, laws in self.engines.items() if name not in names]
        candidates = [*own, *others]

        def first(family: str) -> Any:
            found = [getattr(laws, family) for laws in candidates]
            return next((laws for laws in found if laws), found[0])

        families = {family: first(family) for family in EngineLawsSpec.model_fields}
        return LawsSpec(
            fitted_on=self.fitted_on,
            physics=self.physics,
            elementwise=self.elementwise,
            elementwise_kernels="scalar" if engine in _SCALAR_ENGINES else "vector",
            nccl=self.nccl,
            engine_all_reduce=families.pop("all_reduce"),
            **families,
        )


class LawsSpec(Spec):
    """The laws of one device where one engine serves."""

    fitted_on: str
    """Which measurements the values come from."""
    physics: PhysicsSpec
    attention: dict[Dtype, AttentionLawSpec]
    """By KV dtype."""
    prefill: PrefillLawSpec | None = None
    """None: that of the donor."""
    gemm: dict[WeightDtype, GemmLawSpec]
    """By weight dtype."""
    moe: dict[WeightDtype, dict[MoeLibrary, MoeLawSpec]] = Field(default_factory=dict)
    """By weight dtype, then by whose kernels they are; a run has the first."""
    mla: dict[Dtype, MlaLawSpec] = Field(default_factory=dict)
    """By KV dtype."""
    elementwise: ElementwiseLawSpec
    elementwise_kernels: ElementwiseKernels = "vector"
    nccl: NcclLawSpec
    engine_all_reduce: EngineAllReduceLawSpec | None = None
