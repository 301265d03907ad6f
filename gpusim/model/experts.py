"""The kernels of a mixture of experts: routing, the products of the chosen experts, their weighted sum."""

from __future__ import annotations

from gpusim.model.footprint import expert_matrices
from gpusim.model.layout import Layout
from gpusim.model.routing import ExpertLoad, expert_load
from gpusim.model.work import Count, Elementwise, GroupedGemm, Kernel, Size
from gpusim.spec.base import DTYPE_BYTES, Dtype
from gpusim.spec.model import MoeSpec

ROUTING_BYTES = 8.0
"""Written and read of each choice: an expert's number and its weight, 4 bytes each."""
SCORE_BYTES = 4.0
"""The router's scores are kept in fp32."""


def expert_kernels(
    moe: MoeSpec, hidden: int, num_tokens: Count, *, layout: Layout, weights: Dtype, width: float, skew: float
) -> tuple[Kernel, ...]:
    """Return what follows the router's scores on the rank with the most to do, shared experts left out.

    Args:
        moe: The block.
        hidden: Size of a token's activation.
        num_tokens: Of the batch.
        layout: How experts are split.
        weights: Stored type of the experts.
        width: Bytes of an activation element.
        skew: Zipf exponent of how often experts are chosen.
    """
    ranks = layout.expert_parallel_size
    load = expert_load(num_tokens, moe.num_experts, moe.experts_per_token, skew=skew, ranks=ranks)
    return layer_kernels(moe, hidden, num_tokens, load, layout=layout, weights=weights, width=width)


def layer_kernels(
    moe: MoeSpec, hidden: int, num_tokens: Count, load: ExpertLoad, *, layout: Layout, weights: Dtype, width: float
) -> tuple[Kernel, ...]:
    """Return the kernels for a known *load*; see `expert_kernels`.

    Every rank sees every token: it sorts all choices and adds up a row for each, those of other ranks' experts as zeros,
    as vLLM's fused kernels do.
    """
    shapes = expert_matrices(moe, hidden, layout)
    choices = num_tokens * moe.experts_per_token
    all_tokens = num_tokens * (hidden * width)

    def product(name: str, n: int, k: int) -> GroupedGemm:
        weight_bytes = load.experts * (n * k * DTYPE_BYTES[weights])
        moved = load.rows * ((n + k) * width)
        return GroupedGemm(name, num_tokens, load.rows, load.experts, n, k, weights, weight_bytes, moved)

    def passing(name: str, read: Size, written: Size) -> Elementwise:
        return Elementwise(name, read, written, routed=weights)

    return (
        passing("top_k", num_tokens * (moe.num_experts * SCORE_BYTES), choices * ROUTING_BYTES),
        passing("permute", all_tokens + choices * ROUTING_BYTES, all_tokens),
        product("experts_gate_up" if moe.kind == "gated" else "experts_up", shapes.in_columns, hidden),
        passing("experts_activation", load.rows * (shapes.in_columns * width), load.rows * (shapes.out_rows * width)),
        product("experts_down", hidden, shapes.out_rows),
        passing("combine", choices * (hidden * width), all_tokens),
    )
