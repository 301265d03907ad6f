"""The kernels of a mixture of experts: routing, the products of the chosen experts, their weighted sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpusim.model.arrays import Count, Size
from gpusim.model.footprint import expert_matrices
from gpusim.model.layout import Layout
from gpusim.model.routing import ExpertLoad, expert_load
from gpusim.model.work import ExpertKernels, ExpertPass, GroupedGemm, Kernel
from gpusim.spec.base import DTYPE_BYTES, Dtype, WeightDtype
from gpusim.spec.model import MoeSpec

ROUTING_BYTES = 8.0
"""Written and read of each choice: an expert's number and its weight, 4 bytes each."""
SCORE_BYTES = 4.0
"""The router's scores are kept in fp32."""


@dataclass(frozen=True, slots=True)
class ExpertBlock:
    """The routed experts of a layer on one rank; numbers, or arrays (rows,) for many layers of one type."""

    hidden: Count
    in_columns: Count
    """Of the product that goes in: gate and up together."""
    out_rows: Count
    """Of the product that goes out: hidden units of an expert, or of the rank's slice of it."""
    num_experts: Count
    """Of all ranks."""
    held: Count
    """Of this one."""
    chosen: Count
    """By each token."""
    weights: Dtype
    width: float
    """Bytes of an activation element."""
    kind: Literal["gated", "plain"] = "gated"


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
    shapes = expert_matrices(moe, hidden, layout)
    block = ExpertBlock(
        hidden=hidden,
        in_columns=shapes.in_columns,
        out_rows=shapes.out_rows,
        num_experts=moe.num_experts,
        held=layout.experts(moe),
        chosen=moe.experts_per_token,
        weights=weights,
        width=width,
        kind=moe.kind,
    )
    return layer_kernels(block, num_tokens, load, ExpertKernels(_stored(weights)))


def _stored(weights: Dtype) -> WeightDtype:
    """Return how experts of *weights* are stored: fp8 is scaled in blocks, as published checkpoints are."""
    return "fp8_block" if weights == "fp8" else weights


def layer_kernels(
    block: ExpertBlock, num_tokens: Count, load: ExpertLoad, kernels: ExpertKernels, reuse_distance: Size | None = None
) -> tuple[Kernel, ...]:
    """Return the kernels for a known *load*; see `expert_kernels`.

    Every rank sees every token. What is done for choices of other ranks' experts depends on whose kernels these are, so it
    is stated apart.

    Args:
        block: The experts, on one rank.
        num_tokens: Of the batch.
        load: What they ask of the experts.
        kernels: Whose.
        reuse_distance: Bytes read between two readings of the same weights; None: too many for any cache.
    """
    width, operand = block.width, 1.0 if block.weights == "fp8" else block.width
    all_tokens = num_tokens * (block.hidden * width)

    def product(name: str, n: Count, k: Count) -> GroupedGemm:
        weight_bytes = load.experts * (n * k * DTYPE_BYTES[block.weights])
        moved = load.rows * ((n + k) * width)
        own, others = (load.rows, load.experts), (load.other_rows, load.other_experts)
        sizes = (num_tokens, *own, *others, block.held, n, k)
        return GroupedGemm(name, *sizes, block.weights, weight_bytes, moved, kernels, reuse_distance)

    def passing(name: str, of_tokens: Size, row: Size = 0.0) -> ExpertPass:
        return ExpertPass(name, of_tokens, load.rows * row, load.other_rows * row, kernels)

    scores = num_tokens * (block.num_experts * SCORE_BYTES)
    return (
        passing("top_k", scores + num_tokens * (block.chosen * ROUTING_BYTES)),
        passing("permute", all_tokens + num_tokens * (block.hidden * operand)),
        product("experts_gate_up" if block.kind == "gated" else "experts_up", block.in_columns, block.hidden),
        passing("experts_activation", num_tokens * 0.0, (2 * block.in_columns + block.out_rows) * width),
        product("experts_down", block.hidden, block.out_rows),
        passing("combine", all_tokens, 2 * block.hidden * width),
    )
