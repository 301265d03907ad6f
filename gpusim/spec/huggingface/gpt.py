"""GPT-2 and its kin (GPT-J, GPT-NeoX, OPT, BLOOM): MHA, a plain MLP, LayerNorm, biases nearly everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from gpusim.spec.huggingface.blocks import attention, decoder
from gpusim.spec.huggingface.reader import Build, Reader
from gpusim.spec.model import LayersSpec, MlpSpec

_BLOOM_CONTEXT: Final = 2048
"""What BLOOM was trained with; ALiBi sets no limit, and its published file names none."""


def gpt2(reader: Reader) -> Build:
    """GPT-2: learned positions."""
    layers = _layers(reader, "n_embd", "n_head", "n_layer", "n_inner", rope=False)
    rows = reader.size("n_positions")
    return _decoder(reader, layers, "n_embd", "n_positions", tied=True, position_embeddings=rows)


def gptj(reader: Reader) -> Build:
    """GPT-J: attention and MLP side by side behind one norm; attention has no biases, the LM head has."""
    layers = _layers(reader, "n_embd", "n_head", "n_layer", "n_inner", attention_bias=False, parallel=True, num_norms=1)
    return _decoder(reader, layers, "n_embd", "n_positions", tied=False, lm_head_bias=True)


def gpt_neox(reader: Reader) -> Build:
    """GPT-NeoX, Pythia: attention and MLP side by side, a norm each."""
    layers = _layers(
        reader,
        "hidden_size",
        "num_attention_heads",
        "num_hidden_layers",
        "intermediate_size",
        attention_bias=reader.flag("attention_bias", default=True),
        parallel=reader.flag("use_parallel_residual", default=True),
    )
    return _decoder(reader, layers, "hidden_size", "max_position_embeddings", tied=False)


def opt(reader: Reader) -> Build:
    """OPT but for 350M, whose embedding is narrower than its layers, and whose norms stand behind them."""
    hidden = reader.size("hidden_size")
    if reader.size("word_embed_proj_dim", hidden) != hidden:
        reader.problem("word_embed_proj_dim", f"not yet: an embedding of another width than hidden_size = {hidden}")
    for key in ("do_layer_norm_before", "layer_norm_elementwise_affine"):
        if not reader.flag(key, default=True):
            reader.problem(key, "not yet: norms behind the layers, or without weights")
    bias = reader.flag("enable_bias", default=True)
    layers = _layers(
        reader,
        "hidden_size",
        "num_attention_heads",
        "num_hidden_layers",
        "ffn_dim",
        attention_bias=bias,
        mlp_bias=bias,
        rope=False,
    )
    rows = reader.size("max_position_embeddings") + 2  # the first two are never used
    return _decoder(reader, layers, "hidden_size", "max_position_embeddings", tied=True, position_embeddings=rows)


def bloom(reader: Reader) -> Build:
    """BLOOM: ALiBi, which has no parameters, and a norm behind the embedding."""
    hidden = reader.first("hidden_size", "n_embed")
    heads = reader.first("num_attention_heads", "n_head")
    layers = _layers(reader, hidden, heads, reader.first("num_hidden_layers", "n_layer"), None, rope=False)
    return _decoder(reader, layers, hidden, "seq_length", context=_BLOOM_CONTEXT, tied=True, embedding_norm=True)


def _layers(
    reader: Reader,
    hidden_key: str,
    heads_key: str,
    count_key: str,
    inner_key: str | None,
    *,
    attention_bias: bool = True,
    mlp_bias: bool = True,
    rope: bool = True,
    **more: Any,
) -> Callable[[], LayersSpec]:
    heads = reader.size(heads_key)
    own = attention(
        reader,
        heads,
        heads_key,
        heads_key=heads_key,
        hidden_key=hidden_key,
        qkv_bias=attention_bias,
        out_bias=attention_bias,
        rope=rope,
    )
    wide = 4 * reader.size(hidden_key)
    inner, count = reader.size(inner_key, wide) if inner_key else wide, reader.size(count_key)
    mlp = MlpSpec(kind="plain", intermediate_size=inner, bias=mlp_bias)
    return lambda: LayersSpec(count=count, attention=own(), mlp=mlp, norm_bias=True, **more)


def _decoder(reader: Reader, layers: Callable[[], LayersSpec], hidden_key: str, context_key: str, **more: Any) -> Build:
    return decoder(reader, layers, hidden_key=hidden_key, context_key=context_key, final_norm_bias=True, **more)
