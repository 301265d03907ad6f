"""Experts that replicas share: every layer's tokens go to where their experts are, and come back.

As vLLM's default, ``allgather_reducescatter`` with its `use_sequence_parallel_moe`: a replica's tokens are cut into as many
parts as it has ranks. Every rank scores its part and has the hidden states and scores of all ranks of all replicas gathered
(dispatch); it computes its own experts for all of them; a reduce-scatter adds up the results and leaves each rank its part
(combine), which the ranks of a replica gather. Shared experts are whole on every rank, for its part.

Where a CUDA graph holds the step, all replicas are padded to the most tokens that any has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias, TypeVar

from gpusim.model.arrays import Count
from gpusim.model.collectives import AllGather, Collective, ReduceScatter
from gpusim.model.experts import expert_kernels
from gpusim.model.layout import Layout
from gpusim.model.work import Gemm, Kernel
from gpusim.spec.base import Dtype
from gpusim.spec.model import MoeSpec

MOST_IN_GRAPH: Final = 512
"""Tokens of the largest step that vLLM captures, if it takes `2 * max_num_seqs` at least
(`max_cudagraph_capture_size`)."""

K = TypeVar("K", bound="Kernel | None")
Counted: TypeAlias = "list[tuple[int, K]]"


def part_of(num_tokens: Count, layout: Layout) -> Count:
    """Return a rank's part of its replica's tokens; the last rank pads."""
    return -(-num_tokens // layout.tensor_parallel_size)


def rows_together(tokens: Sequence[int], max_num_seqs: int, layout: Layout) -> tuple[list[int], int]:
    """Return the rows of each replica's activations in a step, and those of all together that are gathered.

    Args:
        tokens: Of each replica.
        max_num_seqs: Of the engines.
        layout: Of each replica.
    """
    most = max(tokens)
    in_graph = most <= min(2 * max_num_seqs, MOST_IN_GRAPH)
    rows = [most] * len(tokens) if in_graph else list(tokens)
    return rows, sum(-(-own // layout.tensor_parallel_size) for own in rows) * layout.tensor_parallel_size


def is_meeting(kernel: object) -> bool:
    """Tell whether the ranks of all replicas take part in *kernel*."""
    return isinstance(kernel, Collective) and kernel.among == "expert"


def own_and_gathered(kernels: Iterable[tuple[int, K]]) -> tuple[Counted[K], Counted[K]]:
    """Part kernels, each with a count, into those of a replica's tokens and those from dispatch to combine."""
    own: list[tuple[int, K]] = []
    gathered: list[tuple[int, K]] = []
    is_out = False
    for count, kernel in kernels:
        meets = is_meeting(kernel)
        (gathered if is_out or meets else own).append((count, kernel))
        is_out ^= meets
    return own, gathered


def dispatched_experts(
    moe: MoeSpec,
    router: Gemm,
    gathered: Count | None,
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
        gathered: Rows of all replicas together; None: as if all had as many.
        shared: Kernels of the shared experts.
        layout: How experts are dealt.
        weights: Stored type of the experts.
        width: Bytes of an activation element; scores are sent in it too.
        skew: Zipf exponent of how often experts are chosen.
    """
    hidden = router.k
    assert isinstance(hidden, int), "a model has one hidden size"
    if gathered is None:
        gathered = router.m * layout.expert_parallel_size
    sent, returned = gathered * ((hidden + moe.num_experts) * width), gathered * (hidden * width)
    kept = router.m * (layout.tensor_parallel_size * hidden * width)
    return (
        router,
        AllGather("dispatch", sent, "expert"),
        *expert_kernels(moe, hidden, gathered, layout=layout, weights=weights, width=width, skew=skew),
        ReduceScatter("combine", returned, "expert"),
        *shared,
        *((AllGather("mlp", kept),) if layout.tensor_parallel_size > 1 else ()),
    )
