"""ServingSpec: how one engine serves its model. Names and meaning as in vLLM, where vLLM has one."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, field_validator, model_validator

from gpusim.spec.base import Spec, not_yet
from gpusim.spec.engine_profile import NO_PROFILE, EngineProfile
from gpusim.spec.sampling import SamplingSpec
from gpusim.units import Bytes, GiB

MOST_SEQUENCES: Final = 100_000
"""A batch of more is a slip of the pen."""
WATERMARK: Final = 0.01
"""Part of all blocks that admissions of vLLM v0 and Sarathi-Serve leave free, so that decodes do not run short at once."""


class KvOffloadSpec(Spec):
    """KV that stays in host memory."""

    size: Bytes = Field(gt=0)
    """Host memory for it, for each GPU."""
    when: Literal["finished", "evicted"] = "finished"
    """finished: full blocks go there when their request is over or preempted; evicted: when the GPU gives them up."""

    @field_validator("when")
    @classmethod
    def _only_finished(cls, value: str) -> str:
        if value == "evicted":
            raise not_yet("kv_offload of evicted blocks; use when: finished")
        return value


class ServingSpec(Spec):
    """One inference engine."""

    tensor_parallel_size: int = Field(default=1, ge=1)
    """GPUs that hold a shard of every layer each."""
    pad_heads: bool = False
    """Where heads do not divide evenly over the ranks, heads of zeros make up for it (PaLM on 64 chips: 48 to 64).

    With fewer KV heads than ranks, query heads alone are padded; else whole groups of a KV head and its query heads are.
    They are stored, read and computed like any other, so projections, KV cache and attention FLOPs grow by the padding.

    Reference: Pope et al., 2023, "Efficiently scaling transformer inference", section 4.
    """
    data_parallel_size: int = Field(default=1, ge=1)
    """Replicas, each with a scheduler, a KV cache and tensor_parallel_size GPUs of its own; requests go to them in turn."""
    enable_expert_parallel: bool = False
    """Whole experts lie on the ranks, each on one, instead of a slice of each on all; on those of all replicas together."""
    expert_skew: float = Field(default=0.0, ge=0, le=4)
    """Zipf exponent of how often experts are chosen, the r-th as r^-skew; 0: all alike."""
    scheduler: Literal["static", "continuous", "vllm-v1", "vllm-v0", "orca", "sarathi"] = "continuous"
    """continuous, or vllm-v1: prompts in chunks beside decodes; vllm-v0: whole prompts first, in steps of their own; orca:
    whole prompts beside decodes, memory for the longest request reserved; sarathi: as continuous, with a prompt's blocks
    taken at once; static: a batch is filled, prefilled and decoded to its last token before the next."""
    scheduling_policy: Literal["fcfs", "priority", "sjf"] = "fcfs"
    """Who waits goes first in order of arrival, by priority (lower first), or by prompt and output together (shorter first)."""
    pad: bool = False
    """With static: every prompt as long as the longest of its batch, and all decode until the last is done."""
    max_num_seqs: int = Field(default=128, ge=1, le=MOST_SEQUENCES)
    """Sequences in a batch."""
    max_num_batched_tokens: int = Field(default=2048, ge=1)
    """Token budget of a step, or chunk size; longer prompts are prefilled in chunks. orca has none."""
    max_model_len: int | None = Field(default=None, ge=2)
    """Longest prompt plus output; longer requests are rejected. Default: the model's own."""
    block_size: int = Field(default=16, ge=1)
    """Tokens in a KV block."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Part of a GPU's memory that weights, workspace and KV blocks may fill."""
    num_gpu_blocks_override: int | None = Field(default=None, ge=1)
    """KV blocks, instead of what memory holds."""
    watermark: float | None = Field(default=None, ge=0, lt=1)
    """Part of the KV blocks that admission leaves free while anybody runs. Default: 0.01 with vllm-v0 and sarathi, else 0."""
    preemption_mode: Literal["recompute", "swap"] = "recompute"
    """What becomes of the KV of who is preempted: computed again, or kept in host memory (names of vLLM v0)."""
    swap_space: Bytes = Field(default=4 * GiB, gt=0)
    """Host memory for swapped KV, for each GPU."""
    kv_offload: KvOffloadSpec | None = None
    """Keep KV in host memory for requests to come that begin alike; needs enable_prefix_caching."""
    enable_prefix_caching: bool = False
    """Prompts that begin alike share KV blocks."""
    async_scheduling: bool = False
    """The batch of the next step is fixed when a step starts, not when it ends, as vLLM does to hide its host time: a request
    that arrives during step k runs in step k + 2, and one that ends in it gives way to another in step k + 2."""
    kv_placement: Literal["sharded", "pooled"] = "sharded"
    """sharded: KV beside the weights; pooled: on GPUs and memory pools no engine computes on, read over the fabric."""
    engine: str | EngineProfile = "none"
    """Engine profile (host time, API time, CUDA graphs): a name, a path, or the profile itself; none: the GPU's time only."""
    jitter: bool = False
    """Tokens of some steps reach their clients later than those of others, by draws with the mean that the engine profile
    states; steps and the means of latencies are as without."""
    sampling: SamplingSpec | None = None
    """How the next token is drawn. Default: as the model's makers publish (`generation` of the model)."""

    @property
    def profile(self) -> EngineProfile:
        """The engine's, once its name is resolved."""
        return self.engine if isinstance(self.engine, EngineProfile) else NO_PROFILE

    @property
    def watermark_part(self) -> float:
        """Part of the KV blocks that admission leaves free."""
        if self.watermark is not None:
            return self.watermark
        return WATERMARK if self.scheduler in ("vllm-v0", "sarathi") else 0.0

    @property
    def swaps(self) -> bool:
        """Whether KV ever moves to host memory; where all blocks are reserved nobody is preempted."""
        return self.preemption_mode == "swap" and self.scheduler not in ("static", "orca")

    @property
    def uses_host(self) -> bool:
        """Whether KV ever moves to host memory."""
        return self.swaps or self.kv_offload is not None

    @model_validator(mode="after")
    def _kv_in_host_memory_is_its_own(self) -> ServingSpec:
        if self.uses_host and self.kv_placement == "pooled":
            raise not_yet("swapping or offloading pooled KV; use kv_placement: sharded, or recompute")
        if self.swaps and (self.scheduler not in ("continuous", "vllm-v1") or self.scheduling_policy != "fcfs"):
            raise not_yet(
                "preemption_mode: swap with another scheduler than continuous, or another policy than fcfs; use recompute"
            )
        if self.swaps and self.async_scheduling:
            raise not_yet("preemption_mode: swap with steps in flight; leave async_scheduling out, or recompute")
        return self

    @model_validator(mode="after")
    def _offloaded_kv_is_known(self) -> ServingSpec:
        if self.kv_offload is not None and not self.enable_prefix_caching:
            raise ValueError("kv_offload keeps blocks by what they hold: add enable_prefix_caching: true")
        return self

    @model_validator(mode="after")
    def _prefixes_need_pages(self) -> ServingSpec:
        if self.enable_prefix_caching and self.scheduler == "static":
            raise ValueError(
                "enable_prefix_caching: the static scheduler gives a request all of its blocks at once and shares none; "
                "use scheduler: continuous"
            )
        if self.enable_prefix_caching and self.scheduler not in ("continuous", "vllm-v1"):
            raise not_yet(f"prefix caching with {self.scheduler}; leave it out, or use scheduler: continuous")
        return self

    @model_validator(mode="after")
    def _only_continuous_is_asynchronous(self) -> ServingSpec:
        if self.async_scheduling and self.scheduler not in ("continuous", "vllm-v1"):
            raise ValueError(
                f"async_scheduling: the {self.scheduler} scheduler decides when a step is over; use scheduler: continuous"
            )
        return self

    @model_validator(mode="after")
    def _budget_holds_a_batch(self) -> ServingSpec:
        if self.scheduler not in ("static", "orca") and self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens = {self.max_num_batched_tokens} is below max_num_seqs = {self.max_num_seqs}: "
                "a step of only decodes would not fit its budget; raise the one or lower the other"
            )
        return self

    @model_validator(mode="after")
    def _pads_batches(self) -> ServingSpec:
        if self.pad and self.scheduler != "static":
            raise ValueError(f"pad is for scheduler: static, {self.scheduler} has nothing to pad; leave it out")
        return self

    @model_validator(mode="after")
    def _no_forced_preemption(self) -> ServingSpec:
        if self.scheduler == "vllm-v0" and self.scheduling_policy == "priority":
            raise not_yet("priority with vllm-v0, which preempts for requests that wait; use fcfs, or vllm-v1")
        return self
