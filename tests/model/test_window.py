"""Layers with a window read what lies inside it, and no more."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import build_lowering, build_model
from gpusim.model.attention import without_wide_windows
from gpusim.model.step import BatchShape, StepShapes, chunk_pairs
from gpusim.model.window import WindowShapes, pairs_in_window, tokens_in_window
from gpusim.model.work import Attention

SPANS = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), min_size=1, max_size=5)
"""New tokens of chunks, and those before them."""


def model_with(window, **changes):
    """Return the small model with *window* in all its layers."""
    (group,) = build_model(**changes).layers
    attention = group.attention.model_copy(update={"window": window})
    return build_model(group=group.model_copy(update={"attention": attention}))


def attention_of(window, contexts):
    """Return the attention of one step of sequences with *contexts* in a layer with *window*; None: full."""
    shape = BatchShape(len(contexts), sum(contexts), num_sampled=len(contexts))
    none = np.array([0])
    read = WindowShapes(np.array([sum(min(c, window or c) for c in contexts)]), none, none.astype(float))
    shapes = StepShapes.of(shape, 1, {} if window is None else {window: read})
    ((_, kernel),) = build_lowering(model_with(window)).attention(shapes)
    return kernel


@given(spans=SPANS, window=st.integers(1, 130))
def test_chunks_attend_to_the_pairs_of_a_double_loop(spans, window):
    """Pairs of a query and a key not further back than the window, and the keys that some query attends to."""
    new = np.array([count for count, _ in spans])
    context = np.array([count + before for count, before in spans])
    masks = [
        [{j for j in range(i + 1) if j > i - window} for i in range(before, before + count)] for count, before in spans
    ]
    assert pairs_in_window(new, context, window).tolist() == [sum(map(len, mask)) for mask in masks]
    assert tokens_in_window(new, context, window).tolist() == [len(set().union(*mask)) for mask in masks]


@given(spans=SPANS, beyond=st.integers(0, 5))
def test_a_window_that_holds_all_is_none(spans, beyond):
    """Tokens and pairs are those of full attention, to the bit, from the longest context on."""
    new = np.array([count for count, _ in spans])
    context = np.array([count + before for count, before in spans])
    window = int(context.max()) + beyond
    assert pairs_in_window(new, context, window).sum() == chunk_pairs(zip(new.tolist(), context.tolist(), strict=True))
    assert tokens_in_window(new, context, window).tolist() == context.tolist()


@given(spans=SPANS, window=st.integers(1, 130))
def test_a_wider_window_reads_no_less(spans, window):
    """Tokens and pairs grow with the window, by at most one a query."""
    new = np.array([count for count, _ in spans])
    context = np.array([count + before for count, before in spans])
    more = pairs_in_window(new, context, window + 1) - pairs_in_window(new, context, window)
    assert ((more >= 0) & (more <= new)).all()
    assert (tokens_in_window(new, context, window) <= tokens_in_window(new, context, window + 1)).all()


@given(contexts=st.lists(st.integers(1, 300), min_size=1, max_size=6), window=st.integers(1, 300))
def test_attention_reads_and_computes_what_lies_in_the_window(contexts, window):
    """Bytes and FLOPs of a decode step are the windows' part of those of full attention."""
    local, full = attention_of(window, contexts), attention_of(None, contexts)
    part = sum(min(context, window) for context in contexts) / sum(contexts)
    for name in ("kv_tokens", "kv_bytes", "decode_flops"):
        assert getattr(local, name)[0] == pytest.approx(part * getattr(full, name)[0], rel=1e-12)
    assert local.activation_bytes == full.activation_bytes


def test_each_kind_of_layer_has_its_own_kv():
    """Layers that differ in window, KV heads or stored type are kinds of their own; others share one."""
    (group,) = build_model(kv_heads=4).layers
    groups = [
        group,
        group.model_copy(update={"num_norms": 1}),
        group.model_copy(update={"kv_dtype": "fp8"}),
        *model_with(16, kv_heads=4).layers,
    ]
    lowering = build_lowering(build_model(layers=8).model_copy(update={"layers": groups}), tp=2)
    assert [(kind.token_bytes, kind.window) for kind in lowering.kv_kinds] == [(512, None), (256, None), (512, 16)]
    shape = BatchShape(2, 100, num_sampled=2)
    program = lowering.lower(shape, 1, {16: WindowShapes.of_decodes(np.array([32]))})
    attention = [k for _, part in program.parts for k in part if isinstance(k, Attention)]
    assert [kernel.kv_kind for kernel in attention] == [0, 0, 1, 2]
    assert [kernel.kv_bytes[0] for kernel in attention] == [100 * 512, 100 * 512, 100 * 256, 32 * 512]
    assert [kernel.dtype for kernel in attention] == ["bf16", "bf16", "fp8", "bf16"]


def test_windows_that_leave_nothing_out_go():
    """Layers whose window holds the longest request have none any more, the others keep theirs."""
    model = model_with(16)
    assert without_wide_windows(model, 16).windows == ()
    assert without_wide_windows(model, 17) is model
