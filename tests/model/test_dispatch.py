"""Experts that replicas share: what lies where, and what is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import build_lowering, build_model
from gpusim.model.collectives import AllGather, AllReduce, ReduceScatter
from gpusim.model.dispatch import own_and_gathered, rows_together
from gpusim.model.footprint import num_parameters
from gpusim.model.layout import Layout
from gpusim.model.step import BatchShape
from gpusim.model.work import GroupedGemm
from gpusim.spec.model import AttentionSpec, LayersSpec, MoeSpec

MOE = MoeSpec(num_experts=16, experts_per_token=2, expert_intermediate_size=256, num_shared_experts=1)
MODEL = build_model(
    group=LayersSpec(count=2, attention=AttentionSpec(num_heads=8, num_kv_heads=8, head_dim=64), mlp=MOE)
)
HIDDEN, WIDTH = MODEL.hidden_size, 2
SPLITS = st.sampled_from([(1, 2), (1, 8), (2, 2), (2, 4), (4, 4)])


def sharing(tp, dp):
    return Layout(tp, enable_expert_parallel=True, data_parallel_size=dp)


def layer(tokens, layout):
    """Return the kernels of one layer of a step of so many decodes."""
    program = build_lowering(MODEL, layout=layout).lower(BatchShape(tokens, 100 * tokens, (), tokens))
    return program.parts[1][1]


@given(tokens=st.integers(1, 200), split=SPLITS)
def test_a_layer_sends_states_and_scores_and_gets_states_back(tokens, split):
    """Tokens of all replicas, a replica's padded to a multiple of its ranks; only attention is summed by all-reduce."""
    tp, dp = split
    kernels = layer(tokens, sharing(tp, dp))
    rows = dp * tp * -(-tokens // tp)
    sent = {k.name: k.size_bytes for k in kernels if isinstance(k, AllGather | ReduceScatter)}
    assert sent["dispatch"] == rows * (HIDDEN + 16) * WIDTH
    assert sent["combine"] == rows * HIDDEN * WIDTH
    assert [k.name for k in kernels if isinstance(k, AllReduce)] == (["attention"] if tp > 1 else [])
    assert sent.get("mlp", 0) == (rows * HIDDEN * WIDTH / dp if tp > 1 else 0)


@given(tokens=st.integers(1, 200), split=SPLITS)
def test_all_ranks_together_compute_the_experts_of_all_tokens(tokens, split):
    """FLOPs of all ranks are those of one rank with the tokens of all replicas."""
    tp, dp = split
    rows = tp * -(-tokens // tp)
    flops = lambda kernels: sum(k.flops for k in kernels if isinstance(k, GroupedGemm))
    assert tp * dp * flops(layer(tokens, sharing(tp, dp))) == pytest.approx(flops(layer(dp * rows, Layout())), rel=1e-9)


@given(split=SPLITS)
def test_every_expert_lies_on_one_rank(split):
    """More replicas hold less each: routed experts once in all, the rest of a replica's rank as before."""
    tp, dp = split
    routed = 2 * 16 * 3 * HIDDEN * 256
    shared = 2 * 3 * HIDDEN * 256
    alone = num_parameters(MODEL, Layout(tp, enable_expert_parallel=True))
    spread = num_parameters(MODEL, sharing(tp, dp))
    assert alone - spread == routed // tp - routed // (tp * dp) - (shared - shared // tp)


def test_one_replica_is_plain_expert_parallelism():
    """With data_parallel_size 1 nothing is dispatched."""
    plain = layer(7, Layout(4, enable_expert_parallel=True))
    assert layer(7, sharing(4, 1)) == plain
    assert not [k for k in plain if isinstance(k, ReduceScatter)]


def test_padding_leaves_attention_alone():
    """Rows that are added for others are projected and normed, and attend to nothing."""
    lowering = build_lowering(MODEL, layout=sharing(1, 2))
    own = lowering.lower(BatchShape(3, 300, (), 3))
    padded = lowering.beside(own, 10, 20)
    wide = lowering.lower(BatchShape(10, 300, (), 3))
    assert padded.fixed_key[:2] == wide.fixed_key[:2] == (10, 3)
    for (_, a), (_, b), (_, c) in zip(padded.parts, own.parts, wide.parts, strict=True):
        for kernel, before, like in zip(a, b, c, strict=True):
            assert kernel is before if kernel.name == "attention" else kernel == like


@given(
    tokens=st.lists(st.integers(1, 700), min_size=2, max_size=4),
    seats=st.sampled_from([4, 64, 1000]),
    tp=st.sampled_from([1, 2]),
)
def test_replicas_are_padded_where_a_graph_holds_the_step(tokens, seats, tp):
    """All to the largest, up to twice the sequences or 512 tokens; beyond, each has its own, even in number for its ranks."""
    rows, gathered = rows_together(tokens, seats, sharing(tp, len(tokens)))
    assert rows == ([max(tokens)] * len(tokens) if max(tokens) <= min(512, 2 * seats) else tokens)
    assert gathered == sum(own + own % tp for own in rows)


@given(own=st.integers(1, 300), others=st.integers(0, 900), split=SPLITS)
def test_experts_see_the_tokens_of_all(own, others, split):
    """What is gathered decides what is sent and computed between dispatch and combine, a replica's tokens the rest."""
    lowering = build_lowering(MODEL, layout=sharing(*split))
    alone, beside = ([k for _, k in part] for part in own_and_gathered(lowering.token_kernels(own, own + others)))
    assert alone == [k for _, k in own_and_gathered(lowering.token_kernels(own))[0]]
    assert beside == [k for _, k in own_and_gathered(lowering.token_kernels(1, own + others))[1]]
    assert [k.name for k in beside[:1] + beside[-1:]] == ["dispatch", "combine"]
