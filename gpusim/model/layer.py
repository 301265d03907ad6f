"""The kernels of one layer: norms, attention with its projections, MLP or experts, and sums over ranks between them."""

from __future__ import annotations

from dataclasses import dataclass

from gpusim.model.arrays import Count
from gpusim.model.common_kernels import CommonKernels
from gpusim.model.dispatch import dispatched_experts, part_of
from gpusim.model.experts import expert_kernels
from gpusim.model.footprint import attention_matrices, kv_bytes_per_token_in, unquantised
from gpusim.model.latent import projections
from gpusim.model.work import Elementwise, Kernel
from gpusim.spec.base import Dtype
from gpusim.spec.model import LatentSpec, LayersSpec, MlpSpec, MoeSpec


@dataclass(frozen=True, slots=True)
class LayerKernels:
    """Makes the kernels of one model's layers but for attention itself, whose place is marked by None."""

    common: CommonKernels
    kv: Dtype
    expert_skew: float
    """Zipf exponent of how often experts are chosen."""

    def of(self, group: LayersSpec, num_tokens: Count, gathered: Count | None) -> tuple[Kernel | None, ...]:
        """Return the kernels of each layer of *group*; *gathered* as in `Lowering.token_kernels`."""
        common = self.common
        attention, mlp = self._attention_block(group, num_tokens), self._feed_forward(group.mlp, num_tokens, gathered)
        size = num_tokens * common.hidden_size * common.width
        norms = [common.fused_norm(f"norm{index}", num_tokens) for index in range(group.num_norms)]
        if group.parallel:
            return (*norms, *attention, *mlp, *common.all_reduce("layer", size))
        return (
            *norms[:1],
            *attention,
            *common.all_reduce("attention", size),
            *((common.norm("post_attention_norm", num_tokens, common.hidden_size),) if group.post_norms else ()),
            *norms[1:],
            *mlp,
            *(() if self._is_dispatched(group.mlp) else common.all_reduce("mlp", size)),
            *((common.norm("post_mlp_norm", num_tokens, common.hidden_size),) if group.post_norms else ()),
        )

    def _attention_block(self, group: LayersSpec, num_tokens: Count) -> tuple[Kernel | None, ...]:
        common, attention = self.common, group.attention
        hidden, head_dim = common.hidden_size, attention.head_dim
        if attention.latent is not None:
            return self._latent_block(group, attention.latent, num_tokens)
        shapes = attention_matrices(attention, hidden, common.layout)
        kv_columns = 2 * common.layout.kv_heads(attention) * head_dim
        heads = shapes.out_rows // head_dim, kv_columns // 2 // head_dim
        cached = num_tokens * kv_bytes_per_token_in(group, self.kv, common.layout)
        return (
            common.gemm("qkv", num_tokens, shapes.in_columns, hidden),
            *(
                common.norm(name, num_tokens * count, head_dim)
                for name, count in zip(("q_norm", "k_norm"), heads, strict=True)
                if attention.qk_norm
            ),
            *((common.rope(num_tokens, sum(heads) * head_dim),) if attention.rope else ()),
            Elementwise("cache_write", num_tokens * kv_columns * common.width, cached, hbm_bytes=cached),
            None,
            common.gemm("o", num_tokens, hidden, shapes.out_rows),
        )

    def _latent_block(self, group: LayersSpec, latent: LatentSpec, num_tokens: Count) -> tuple[Kernel | None, ...]:
        common, attention = self.common, group.attention
        into, output = projections(
            attention, latent, common.hidden_size, num_tokens, layout=common.layout, weights=common.weights
        )
        # The rotated part of the key is one for all heads.
        rope = common.rope(num_tokens, (common.layout.heads(attention) + 1) * latent.qk_rope_head_dim)
        cached = num_tokens * kv_bytes_per_token_in(group, self.kv, common.layout)
        write = Elementwise("cache_write", num_tokens * (attention.head_dim * common.width), cached, hbm_bytes=cached)
        return (*into, rope, write, None, output)

    def _feed_forward(self, mlp: MlpSpec | MoeSpec, num_tokens: Count, gathered: Count | None) -> tuple[Kernel, ...]:
        common = self.common
        if isinstance(mlp, MlpSpec):
            return common.mlp(mlp, num_tokens)
        hidden, layout = common.hidden_size, common.layout
        own = part_of(num_tokens, layout) if layout.shares_experts else num_tokens
        router = common.gemm("router", own, mlp.num_experts, hidden, unquantised(common.weights))
        shared = () if mlp.shared is None else common.mlp(mlp.shared, own, "shared_", layout.of_shared)
        weights, width, skew = mlp.weight_dtype or common.weights, common.width, self.expert_skew
        if layout.shares_experts:
            return dispatched_experts(
                mlp, router, gathered, shared, layout=layout, weights=weights, width=width, skew=skew
            )
        routed = expert_kernels(mlp, hidden, num_tokens, layout=layout, weights=weights, width=width, skew=skew)
        return (router, *routed, *shared)

    def _is_dispatched(self, mlp: MlpSpec | MoeSpec) -> bool:
        """Tell whether a block puts its outputs together by itself."""
        return self.common.layout.shares_experts and isinstance(mlp, MoeSpec)
