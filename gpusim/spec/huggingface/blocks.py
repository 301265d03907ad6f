"""What families have in common: sizes, attention, the longest request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpusim.spec.huggingface.reader import Build, Fields, Reader
from gpusim.spec.huggingface.windows import layer_types, sliding_window, with_window
from gpusim.spec.model import AttentionSpec, LayersSpec, MlpSpec


def attention(
    reader: Reader,
    kv_heads: int,
    kv_key: str,
    *,
    heads_key: str = "num_attention_heads",
    hidden_key: str = "hidden_size",
    default_dim: int | None = None,
    **more: Any,
) -> Callable[[], AttentionSpec]:
    """Read attention.

    Args:
        reader: Of the file.
        kv_heads: KV heads.
        kv_key: Where they are stated.
        heads_key: Where the heads are.
        hidden_key: Where the hidden size is.
        default_dim: Of `head_dim`; None: an even share of the hidden size.
        more: Further fields of `AttentionSpec`.
    """
    heads = reader.size(heads_key)
    if reader.is_sound(heads_key, kv_key) and heads % kv_heads:
        reader.problem(kv_key, f"{kv_heads} does not divide {heads_key} = {heads}")
    dim = default_dim if reader.get("head_dim") is None else None
    dim = dim or head_dim(reader, heads, heads_key, hidden_key)
    return lambda: AttentionSpec(num_heads=heads, num_kv_heads=kv_heads, head_dim=dim, **more)


def head_dim(
    reader: Reader, heads: int, heads_key: str = "num_attention_heads", hidden_key: str = "hidden_size"
) -> int:
    """Return the stated size of a head, else an even share of the hidden size."""
    if reader.get("head_dim") is not None:
        return reader.size("head_dim")
    hidden = reader.size(hidden_key)
    if reader.is_sound(heads_key, hidden_key) and hidden % heads:
        reader.problem(heads_key, f"{heads} does not divide {hidden_key} = {hidden}, and head_dim is absent")
    return max(1, hidden // heads)


def gated(
    reader: Reader, *, qkv_bias: bool = False, out_bias: bool = False, mlp_bias: bool = False, **more: Any
) -> Callable[[], LayersSpec]:
    """Read the layers of Llama and its kin: GQA (*more* of it: see `attention`), a gated MLP, an RMSNorm before each."""
    heads = reader.size("num_attention_heads")
    kv_heads = reader.size("num_key_value_heads", heads)
    own = attention(reader, kv_heads, "num_key_value_heads", qkv_bias=qkv_bias, out_bias=out_bias, **more)
    intermediate, count = reader.size("intermediate_size"), reader.size("num_hidden_layers")
    mlp = MlpSpec(kind="gated", intermediate_size=intermediate, bias=mlp_bias)
    return lambda: LayersSpec(count=count, attention=own(), mlp=mlp)


def decoder(
    reader: Reader,
    layers: Callable[[], LayersSpec],
    *,
    tied: bool = False,
    context: int | None = None,
    windowed: bool = True,
    local: Callable[[int], bool] | None = None,
    hidden_key: str = "hidden_size",
    context_key: str = "max_position_embeddings",
    **more: Any,
) -> Build:
    """Put a decoder together whose layers are alike but for a sliding window.

    Args:
        reader: Of the file.
        layers: Builds them.
        tied: Default of `tie_word_embeddings`.
        context: Default of the longest request; None: it is required.
        windowed: Default of `use_sliding_window`.
        local: Which layers have the window, from 0 on, where there are no `layer_types`; None: all.
        hidden_key: Where the hidden size is.
        context_key: Where the longest request is.
        more: Further fields of `ModelSpec`.
    """
    fields: Fields = {"hidden_size": reader.size(hidden_key), "vocab_size": reader.size("vocab_size")}
    fields["max_model_len"] = longest = reader.size(context_key, context)
    fields["tie_word_embeddings"] = reader.flag("tie_word_embeddings", default=tied)
    window = sliding_window(reader, used=windowed)
    if window is None or window >= longest:
        return lambda: fields | more | {"layers": [layers()]}
    is_local = layer_types(reader, reader.size("num_hidden_layers"), local or (lambda _: True))
    return lambda: fields | more | with_window(layers(), window, is_local)
