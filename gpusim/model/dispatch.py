"""Experts that replicas share: every layer's tokens go to where their experts are, and come back.

As vLLM's default, ``allgather_reducescatter``: each replica's tokens are padded to the most that any replica has and cut
into as many parts as it has ranks (`use_sequence_parallel_moe`). Every rank scores its part and has the hidden states and
scores of all ranks gathered (dispatch); it computes its own experts for all of them; a reduce-scatter adds up the results and leaves
each rank its part (combine), which the ranks of a replica gather. Shared experts are whole on every rank, for its part.
"""

from __future__ import annotations

from gpusim.model.experts import expert_kernels
from gpusim.model.layout import Layout
from gpusim.model.work import AllGather, Count, Gemm, Kernel, ReduceScatter
from gpusim.spec.base import Dtype
from gpusim.spec.model import MoeSpec


def own_tokens(num_tokens: Count, layout: Layout) -> Count:
    """Return a rank's part of its replica's tokens; the last rank pads."""
    return -(-num_tokens // layout.tensor_parallel_size)


def dispatched_experts(
    moe: MoeSpec,
    router: Gemm,
    num_tokens: Count,
    shared: tuple[Kernel, ...],
    *,
    layout: Layout,
    weights: Dtype,
    width: float,
    skew: float,
) -> tuple[Kernel, ...]:
    """Return the kernels of a block of experts that replicas share.

    Args:
        moe: The block.
        router: Scores a rank's part of the tokens.
        num_tokens: Of each replica, padded alike.
        shared: Kernels of the shared experts.
        layout: How experts are dealt.
        weights: Stored type of the experts.
        width: Bytes of an activation element; scores are sent in it too.
        skew: Zipf exponent of how often experts are chosen.
    """
    hidden = router.k
    gathered = own_tokens(num_tokens, layout) * layout.expert_parallel_size
    sent, returned = gathered * ((hidden + moe.num_experts) * width), gathered * (hidden * width)
    kept = own_tokens(num_tokens, layout) * layout.tensor_parallel_size * (hidden * width)
    routed = expert_kernels(moe, hidden, gathered, layout=layout, weights=weights, width=width, skew=skew)
    return (
        router,
        AllGather("dispatch", sent, "expert"),
        *routed,
        ReduceScatter("combine", returned, "expert"),
        *shared,
        *((AllGather("mlp", kept),) if layout.tensor_parallel_size > 1 else ()),
    )
