"""How a model is split over ranks: tensor parallelism, as Megatron-LM splits a transformer.

Attention heads and the MLP's hidden dimension are divided; KV heads too, or replicated where there are fewer than
ranks. Two all-reduces a layer put the residual stream together again (one where attention and MLP run in parallel).

Reference: Shoeybi et al., 2019, "Megatron-LM: training multi-billion parameter language models using model parallelism".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpusim.spec.model import AttentionSpec, MlpSpec, ModelSpec
from gpusim.spec.serving import ServingSpec


@dataclass(frozen=True, slots=True)
class Layout:
    """One rank's share of a model."""

    tensor_parallel_size: int = 1
    pad_heads: bool = False
    """Heads that do not divide evenly are made up for with heads of zeros; see `ServingSpec.pad_heads`."""

    @classmethod
    def of(cls, serving: ServingSpec) -> Layout:
        """Return the layout that an engine is served with."""
        return cls(serving.tensor_parallel_size, serving.pad_heads)

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

    def vocabulary(self, model: ModelSpec) -> int:
        """Rows of the embedding on a rank; the last rank pads."""
        return -(-model.vocab_size // self.tensor_parallel_size)

    def problem(self, model: ModelSpec) -> str | None:
        """Say why *model* cannot be split so, with sizes that work; None if it can."""
        size = self.tensor_parallel_size
        if self._fits(model, size):
            return None
        good = ", ".join(str(n) for n in range(1, 65) if self._fits(model, n))
        good += (
            ", or pad_heads: true"
            if not self.pad_heads and replace(self, pad_heads=True).problem(model) is None
            else ""
        )
        heads = sorted({group.attention.num_heads for group in model.layers})
        kv_heads = sorted({group.attention.num_kv_heads for group in model.layers})
        return (
            f"{size} does not divide num_attention_heads = {_list(heads)} of {model.name} "
            f"(num_kv_heads = {_list(kv_heads)} must divide or be divided too, and the MLP be divided); try {good}"
        )

    def _fits(self, model: ModelSpec, size: int) -> bool:
        return all(
            self._fit_heads(group.attention, size) and group.mlp.intermediate_size % size == 0 for group in model.layers
        )

    def _fit_heads(self, attention: AttentionSpec, size: int) -> bool:
        if attention.num_kv_heads < size:
            fits = size % attention.num_kv_heads == 0
        else:
            fits = self.pad_heads or attention.num_kv_heads % size == 0
        return fits and (self.pad_heads or attention.num_heads % size == 0)


def _list(values: list[int]) -> str:
    return " and ".join(map(str, values))
