"""Models with layers of several kinds: patterns, KV and weights of known ones, the kernels they have more."""

import numpy as np
import pytest

from builders import build_lowering, build_model, catalog_model
from gpusim.model.collectives import AllReduce
from gpusim.model.footprint import kv_bytes_per_token, num_active_parameters, num_parameters, weight_bytes
from gpusim.model.layout import Layout
from gpusim.model.step import BatchShape
from gpusim.model.window import WindowShapes
from gpusim.model.work import Attention, Elementwise, GroupedGemm
from gpusim.spec.model import ModelSpec
from gpusim.units import GiB


@pytest.mark.parametrize(
    ("name", "layers", "kv_heads", "head_dim"),
    [
        ("mistral-7b-v0.1", 32, 8, 128),
        ("gemma-2-2b", 26, 4, 256),
        ("gemma-2-9b", 42, 8, 256),
        ("gemma-2-27b", 46, 16, 128),
        ("gemma-3-1b", 26, 1, 256),
        ("gemma-3-27b", 62, 16, 128),
        ("gpt-oss-20b", 24, 8, 64),
        ("gpt-oss-120b", 36, 8, 64),
    ],
)
def test_kv_of_known_models(name, layers, kv_heads, head_dim):
    """A key and a value of 16 bit per layer, KV head and dimension, whatever the window: blocks are held in all layers."""
    model = catalog_model(name)
    assert model.num_layers == layers
    assert kv_bytes_per_token(model, "bf16") == layers * 2 * kv_heads * head_dim * 2


@pytest.mark.parametrize(
    ("name", "window", "locals_", "globals_"),
    [
        ("mistral-7b-v0.1", 4096, 32, 0),
        ("gemma-2-9b", 4096, 21, 21),
        ("gemma-3-4b", 1024, 29, 5),
        ("gemma-3-27b", 1024, 52, 10),
        ("gpt-oss-120b", 128, 18, 18),
    ],
)
def test_a_long_context_is_read_in_the_global_layers_alone(name, window, locals_, globals_):
    """At 32,768 tokens a decode reads all of them in global layers and a window in local ones."""
    model = catalog_model(name)
    shapes = {window: WindowShapes.of_decodes(np.array([window]))}
    program = build_lowering(model).lower(BatchShape(1, 32768, num_sampled=1), 1, shapes)
    read = sum(n * k.kv_tokens[0] for n, part in program.parts for k in part if isinstance(k, Attention))
    assert read == locals_ * window + globals_ * 32768


@pytest.mark.parametrize(("name", "checkpoint", "active"), [("gpt-oss-20b", 12.8, 3.61), ("gpt-oss-120b", 60.8, 5.13)])
def test_gpt_oss_is_as_large_as_its_checkpoint(name, checkpoint, active):
    """GiB of experts in 4.25 bit and all else in 16, and active parameters without the embedding, as its card says."""
    model = catalog_model(name)
    assert weight_bytes(model, "bf16") / GiB == pytest.approx(checkpoint, rel=0.003)
    assert num_active_parameters(model) / 1e9 == pytest.approx(active, rel=0.003)


def test_experts_of_their_own_type_are_read_in_it():
    """The experts' products have MXFP4's bytes and the layers' all the footprint counts, split or not."""
    model, tokens = catalog_model("gpt-oss-20b"), 100_000
    shapes = {128: WindowShapes.of_decodes(np.array([tokens]))}
    for tp in (1, 4):
        program = build_lowering(model, tp=tp).lower(BatchShape(tokens, tokens, num_sampled=1), 1, shapes)
        kernels = [(count, k) for count, part in program.parts for k in part if isinstance(k, GroupedGemm)]
        read = sum(count * k.weight_bytes for count, k in kernels)
        assert {kernel.dtype for _, kernel in kernels} == {"mxfp4"}
        assert float(np.sum(read)) == pytest.approx(24 * 32 * 3 * 2880 * 2880 * 4.25 / 8 / tp, rel=1e-6)
    other = model.model_copy(
        update={
            "layers": [
                g.model_copy(update={"mlp": g.mlp.model_copy(update={"weight_dtype": None})}) for g in model.layers
            ]
        }
    )
    less = weight_bytes(other, "bf16", Layout(2)) - weight_bytes(model, "bf16", Layout(2))
    assert less == pytest.approx(24 * 32 * 3 * 2880 * 2880 * (2 - 4.25 / 8) / 2)


def test_sinks_are_a_parameter_a_head():
    """A logit for each head and layer, divided over the ranks with the heads."""
    (group,) = build_model(layers=3).layers
    sinks = group.model_copy(update={"attention": group.attention.model_copy(update={"sinks": True})})
    for tp in (1, 4):
        added = num_parameters(build_model(group=sinks), Layout(tp)) - num_parameters(build_model(layers=3), Layout(tp))
        assert added == 3 * 8 / tp


def test_gemma_has_norms_behind_its_blocks():
    """Input norm, attention, all-reduce, norm, norm, MLP, all-reduce, norm: in that order, two of four with the residual."""
    (group,) = build_model().layers
    model = build_model(group=group.model_copy(update={"post_norms": True}), logit_softcap=True)
    _, (_, layer), (_, after) = build_lowering(model, tp=2).lower(BatchShape(4, 100, num_sampled=4)).parts
    order = [k.name for k in layer if isinstance(k, AllReduce) or "norm" in k.name]
    assert order == ["norm0", "attention", "post_attention_norm", "norm1", "mlp", "post_mlp_norm"]
    sizes = {k.name: k.bytes_read + k.bytes_written for k in layer if isinstance(k, Elementwise)}
    assert sizes["norm1"] == 2 * sizes["post_mlp_norm"] == 2 * 4 * 2 * model.hidden_size * 2
    capped = [k.bytes_read for k in after if k.name == "softcap"]
    assert capped == 3 * [4 * model.vocab_size * 2]
    assert num_parameters(model) - num_parameters(build_model()) == 2 * 2 * model.hidden_size


def small(**changes):
    """Return the small model with two groups of two layers and one."""
    (group,) = build_model().layers
    groups = [group, group.model_copy(update={"count": 1, "num_norms": 1})]
    return ModelSpec(**build_model().model_dump(exclude={"layers", "pattern"}), layers=groups, **changes)


@pytest.mark.parametrize(
    ("pattern", "order"), [(None, [0, 0, 1]), ([0, 1], [0, 1, 0]), ([1, 0, 0], [1, 0, 0]), ([0, 0, 1, 0], [0, 0, 1])]
)
def test_a_pattern_deals_out_the_layers(pattern, order):
    """It is repeated up to the last layer; without one, groups follow each other."""
    assert small(pattern=pattern).layer_order == order


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ([], "must name some of the 2 groups"),
        ([0, 2], "must name some of the 2 groups"),
        ([1, 0], r"makes \[1, 2\] of 3 layers, count says \[2, 1\]"),
    ],
)
def test_a_pattern_that_does_not_fit_is_refused(pattern, message):
    """Groups that do not exist, and counts that are not those of the groups."""
    with pytest.raises(ValueError, match=message):
        small(pattern=pattern)
