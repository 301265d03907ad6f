"""How a model is split over ranks: tensor parallelism, as Megatron-LM splits a transformer.

Attention heads and the MLP's hidden dimension are divided; KV heads too, or replicated where there are fewer than
ranks. Two all-reduces a layer put the residual stream together again (one where attention and MLP run in parallel).
Of a mixture of experts each rank holds a slice of every expert, or, with expert parallelism, whole experts: tokens are
on all ranks in any case, so the same all-reduce adds up what their experts give. Shared experts are sliced.

Replicas with expert parallelism share the experts (`shares_experts`): whole ones lie on the ranks of all replicas, all
else on the ranks of each. See `gpusim.model.dispatch`.

Reference: Shoeybi et al., 2019, "Megatron-LM: training multi-billion parameter language models using model parallelism".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from gpusim.spec.model import AttentionSpec, LayersSpec, MlpSpec, ModelSpec, MoeSpec
from gpusim.spec.serving import ServingSpec

MOST_RANKS: Final = 64
"""Largest size that is proposed where nothing is known of the machine."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One rank's share of a model."""

    tensor_parallel_size: int = 1
    pad_heads: bool = False
    """Heads that do not divide evenly are made up for with heads of zeros; see `ServingSpec.pad_heads`."""
    enable_expert_parallel: bool = False
    """Routed experts lie on the ranks whole."""
    data_parallel_size: int = 1
    """Replicas of all but the experts."""

    @classmethod
    def of(cls, serving: ServingSpec) -> Layout:
        """Return the layout that an engine is served with."""
        return cls(
            serving.tensor_parallel_size,
            serving.pad_heads,
            serving.enable_expert_parallel,
            serving.data_parallel_size,
        )

    @property
    def expert_parallel_size(self) -> int:
        """Ranks over which whole experts are dealt."""
        return self.tensor_parallel_size * self.data_parallel_size if self.enable_expert_parallel else 1

    @property
    def shares_experts(self) -> bool:
        """Whether the experts are dealt over several replicas."""
        return self.enable_expert_parallel and self.data_parallel_size > 1

    @property
    def of_shared(self) -> Layout:
        """Split of shared experts; between dispatch and combine a rank has tokens of its own, and all of their weights."""
        return Layout() if self.shares_experts else self

    def heads(self, attention: AttentionSpec) -> int:
        """Query heads on a rank, padding included."""
        if attention.num_kv_heads > self.tensor_parallel_size:
            return self.kv_heads(attention) * (attention.num_heads // attention.num_kv_heads)
        return -(-attention.num_heads // self.tensor_parallel_size)

    def kv_heads(self, attention: AttentionSpec) -> int:
        """KV heads cached on a rank: whole ones, replicated where there are fewer than ranks; padding included."""
        return -(-attention.num_kv_heads // self.tensor_parallel_size)

    def projection_kv_heads(self, attention: AttentionSpec) -> int:
        """KV heads that the projection weights on a rank produce."""
        return -(-(attention.projection_kv_heads or attention.num_kv_heads) // self.tensor_parallel_size)

    def intermediate(self, mlp: MlpSpec) -> int:
        """Hidden units of the MLP on a rank."""
        return mlp.intermediate_size // self.tensor_parallel_size

    def experts(self, moe: MoeSpec) -> int:
        """Routed experts on a rank, or slices of them."""
        return moe.num_experts // self.expert_parallel_size

    def expert_intermediate(self, moe: MoeSpec) -> int:
        """Hidden units of a routed expert on a rank that holds it or a slice of it."""
        return moe.expert_intermediate_size // (1 if self.enable_expert_parallel else self.tensor_parallel_size)

    def vocabulary(self, model: ModelSpec) -> int:
        """Rows of the embedding on a rank; the last rank pads."""
        return -(-model.vocab_size // self.tensor_parallel_size)

    def problem(self, model: ModelSpec, num_gpus: int = MOST_RANKS) -> str | None:
        """Say why *model* cannot be split so, with sizes that work on *num_gpus*; None if it can."""
        return self._misplaced_experts(model, num_gpus) or self._misfit(model, num_gpus)

    def _sizes(self, model: ModelSpec, num_gpus: int) -> str:
        """List the tensor-parallel sizes that *model* can be split by on *num_gpus*."""
        largest = num_gpus // self.data_parallel_size
        sizes = [str(n) for n in range(1, largest + 1) if replace(self, tensor_parallel_size=n).fits(model)]
        return ", ".join(sizes) or "another topology"

    def _misfit(self, model: ModelSpec, num_gpus: int) -> str | None:
        size = self.tensor_parallel_size
        if self.fits(model):
            return None
        good = self._sizes(model, num_gpus)
        padded = replace(self, pad_heads=True)
        good += ", or pad_heads: true" if not self.pad_heads and padded.fits(model) else ""
        heads = sorted({group.attention.num_heads for group in model.layers})
        kv_heads = sorted({group.attention.num_kv_heads for group in model.layers})
        blocks = "MLP" if all(isinstance(group.mlp, MlpSpec) for group in model.layers) else "MLP and the experts"
        return (
            f"{size} does not divide num_attention_heads = {_list(heads)} of {model.name} "
            f"(num_kv_heads = {_list(kv_heads)} must divide or be divided too, and the {blocks} be divided); try {good}"
        )

    def _misplaced_experts(self, model: ModelSpec, num_gpus: int) -> str | None:
        if not self.enable_expert_parallel:
            return None
        counts = sorted({group.mlp.num_experts for group in model.layers if isinstance(group.mlp, MoeSpec)})
        if not counts:
            return f"enable_expert_parallel: {model.name} has no experts; leave it out"
        size = self.expert_parallel_size
        if all(count % size == 0 for count in counts):
            return None
        if self.shares_experts:
            most = num_gpus // self.tensor_parallel_size
            sizes = [n for n in range(1, most + 1) if replace(self, data_parallel_size=n).fits(model)]
            return (
                f"enable_expert_parallel: {size} ranks ({self.tensor_parallel_size} in each of {self.data_parallel_size} "
                f"replicas) do not divide num_experts = {_list(counts)} of {model.name}; try data_parallel_size = "
                f"{', '.join(map(str, sizes)) or 'none, with another tensor_parallel_size'}"
            )
        return (
            f"enable_expert_parallel: {size} ranks do not divide num_experts = {_list(counts)} of {model.name}; "
            f"try {self._sizes(model, num_gpus)}, or leave enable_expert_parallel out"
        )

    def fits(self, model: ModelSpec) -> bool:
        """Say whether *model* can be split so."""
        return all(self._fits_group(group) for group in model.layers)

    def _fits_group(self, group: LayersSpec) -> bool:
        return self._fit_heads(group.attention) and self._fits_mlp(group.mlp)

    def _fit_heads(self, attention: AttentionSpec) -> bool:
        size = self.tensor_parallel_size
        if attention.num_kv_heads < size:
            fits = size % attention.num_kv_heads == 0
        else:
            fits = self.pad_heads or attention.num_kv_heads % size == 0
        return fits and (self.pad_heads or attention.num_heads % size == 0)

    def _fits_mlp(self, mlp: MlpSpec | MoeSpec) -> bool:
        if isinstance(mlp, MlpSpec):
            return mlp.intermediate_size % self.tensor_parallel_size == 0
        if self.enable_expert_parallel:
            fits = mlp.num_experts % self.expert_parallel_size == 0
        else:
            fits = mlp.expert_intermediate_size % self.tensor_parallel_size == 0
        shared = 0 if mlp.shared is None else mlp.shared.intermediate_size
        return fits and shared % self.of_shared.tensor_parallel_size == 0


def _list(values: list[int]) -> str:
    return " and ".join(map(str, values))
