"""Kernels of a step around its layers: the embedding before them, LM head and sampling after them."""

from __future__ import annotations

from dataclasses import dataclass

from gpusim.model.arrays import Count
from gpusim.model.collectives import AllGather
from gpusim.model.common_kernels import CommonKernels
from gpusim.model.footprint import unquantised
from gpusim.model.work import Elementwise, HostWork, Kernel, Sort
from gpusim.spec.model import ModelSpec
from gpusim.spec.sampling import SamplingSpec

LOGIT_BYTES = 4.0
"""Of a logit that is sampled from: fp32, whatever the head computes in."""
PENALTY_READ, PENALTY_WRITTEN = 47.0, 38.0
"""Bytes a logit that vLLM's penalties read and write: 64-bit counts of the prompt's and the output's tokens, cleared and
compared (16 and 18), then in fp32 repetition (6 and 4), frequency (16 and 8) and presence (9 and 8), all of which it
applies where one is asked for. Counted in its source (`apply_penalties`), not measured."""


@dataclass(frozen=True, slots=True)
class AroundLayers:
    """Makes what a step of one model begins and ends with."""

    model: ModelSpec
    common: CommonKernels
    sampling: SamplingSpec
    waits_for_host: bool
    """Whether steps hold what the GPU waits for the host to do."""

    def before(self, num_tokens: Count) -> tuple[Kernel, ...]:
        """Return what comes before the layers."""
        size = num_tokens * self.model.hidden_size * self.common.width
        columns = self.model.hidden_size
        looked_up = Elementwise("embedding", size, size, "embedding", num_tokens, columns, hbm_bytes=size)
        host = [HostWork("host", steps=1)] if self.waits_for_host else []
        kernels: list[Kernel] = [*host, looked_up, *self.common.all_reduce("embedding", size)]
        if self.model.position_embeddings:
            kernels.append(Elementwise("position_embedding", 2 * size, size, "embedding", num_tokens, columns, size))
        if self.model.embedding_norm:
            kernels.append(self.common.norm("embedding_norm", num_tokens, columns))
        return tuple(kernels)

    def after(self, num_sampled: Count) -> tuple[Kernel, ...]:
        """Return what comes after the layers, for the sequences that get a token."""
        model, rows = self.model, self.common.layout.vocabulary(self.model)
        logits = num_sampled * model.vocab_size * self.common.width
        head = self.common.gemm("lm_head", num_sampled, rows, model.hidden_size, unquantised(self.common.weights))
        gather = (AllGather("logits", logits),) if self.common.layout.tensor_parallel_size > 1 else ()
        # vLLM divides, takes the tanh and multiplies, in a kernel each.
        capped = 3 * (Elementwise("softcap", logits, logits),) if model.logit_softcap else ()
        entries = num_sampled * model.vocab_size
        # Converted to fp32, then searched.
        sample = Elementwise(
            "sample", logits + LOGIT_BYTES * entries, LOGIT_BYTES * entries + 4.0 * num_sampled, "sample"
        )
        draw = (*self._candidates(num_sampled), sample)
        if self.waits_for_host:
            draw = (*draw, HostWork("host", sequences=num_sampled, logit_passes=self.sampling.logit_passes))
        return (self.common.fused_norm("final_norm", num_sampled), head, *gather, *capped, *draw)

    def _candidates(self, num_sampled: Count) -> tuple[Kernel, ...]:
        """What is done to the logits before a token is drawn; every rank has them all, and does the same."""
        elements = 1.0 * num_sampled * self.model.vocab_size
        kernels: list[Kernel] = []
        if self.sampling.penalises:
            kernels.append(Elementwise("penalties", PENALTY_READ * elements, PENALTY_WRITTEN * elements))
        if self.sampling.sorts:
            kernels.append(Sort("sort_logits", elements))
        return tuple(kernels)
