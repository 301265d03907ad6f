"""Mixtures of experts: Mixtral, Qwen3 MoE, Llama 4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gpusim.spec.huggingface.blocks import attention, decoder
from gpusim.spec.huggingface.reader import Build, Fields, Reader
from gpusim.spec.huggingface.windows import in_order
from gpusim.spec.model import LayersSpec, MlpSpec, MoeSpec

_QWEN3_HEAD_DIM: Final = 128
_LLAMA4_CHUNK: Final = 8192
_LLAMA4_DENSE_SIZE: Final = 16384
_LLAMA4_NOPE_EVERY: Final = 4
"""Defaults of the models' classes."""


def experts(
    reader: Reader, number_key: str, size_key: str, *, chosen: int, number: int | None = None, shared: int = 0
) -> Callable[[], MoeSpec]:
    """Read the experts of a layer.

    Args:
        reader: Of the file.
        number_key: Where their number is.
        size_key: Where the size of each is.
        chosen: Default of `num_experts_per_tok`.
        number: Default of *number_key*; None: it is required.
        shared: Experts that every token takes.
    """
    count, top_k = reader.size(number_key, number), reader.size("num_experts_per_tok", chosen)
    size = reader.size(size_key)
    if reader.is_sound(number_key, "num_experts_per_tok") and top_k > count:
        reader.problem("num_experts_per_tok", f"{top_k} exceeds {number_key} = {count}")
    return lambda: MoeSpec(
        num_experts=count, experts_per_token=top_k, expert_intermediate_size=size, num_shared_experts=shared
    )


def mixtral(reader: Reader) -> Build:
    """Mixtral 8x7B and 8x22B: every layer has experts."""
    heads = reader.size("num_attention_heads")
    own = attention(reader, reader.size("num_key_value_heads", heads), "num_key_value_heads")
    moe = experts(reader, "num_local_experts", "intermediate_size", chosen=2, number=8)
    count = reader.size("num_hidden_layers")
    return decoder(reader, lambda: LayersSpec(count=count, attention=own(), mlp=moe()))


def qwen3_moe(reader: Reader) -> Build:
    """Qwen3 with experts: norms on Q and K; every layer has experts."""
    heads, biased = reader.size("num_attention_heads"), reader.flag("attention_bias")
    own = attention(
        reader,
        reader.size("num_key_value_heads", heads),
        "num_key_value_heads",
        qkv_bias=biased,
        out_bias=biased,
        default_dim=_QWEN3_HEAD_DIM,
        qk_norm=True,
    )
    moe = experts(reader, "num_experts", "moe_intermediate_size", chosen=8, number=128)
    if reader.get("mlp_only_layers"):
        reader.problem("mlp_only_layers", "not yet: dense layers among those with experts; leave it empty")
    if reader.size("decoder_sparse_step", 1) != 1:
        reader.problem("decoder_sparse_step", "not yet: dense layers among those with experts; write 1")
    count = reader.size("num_hidden_layers")
    return decoder(reader, lambda: LayersSpec(count=count, attention=own(), mlp=moe()), windowed=False)


def llama4(reader: Reader) -> Build:
    """Llama 4's language model: experts in every n-th layer, attention within chunks but for every fourth layer.

    A chunk is taken as a window of its size: a query sees what its chunk holds up to itself, half of it in the mean, the
    window all of it.
    """
    heads, count = reader.size("num_attention_heads"), reader.size("num_hidden_layers")
    own = attention(reader, reader.size("num_key_value_heads", heads), "num_key_value_heads")
    moe = experts(reader, "num_local_experts", "intermediate_size", chosen=1, number=16, shared=1)
    dense = reader.size("intermediate_size_mlp", _LLAMA4_DENSE_SIZE)
    step = reader.size("interleave_moe_layer_step", 1)
    sparse = _numbers(reader, "moe_layers") or range(step - 1, count, step)
    rotated = _numbers(reader, "no_rope_layers") or [(layer + 1) % _LLAMA4_NOPE_EVERY for layer in range(count)]
    chunk = reader.size("attention_chunk_size", _LLAMA4_CHUNK)
    fields: Fields = {key: reader.size(key) for key in ("hidden_size", "vocab_size")}
    fields["max_model_len"] = longest = reader.size("max_position_embeddings")
    fields["tie_word_embeddings"] = reader.flag("tie_word_embeddings")
    reader.notes.append("the language model alone; attention within chunks taken as a window of their size")

    def layer(number: int) -> LayersSpec:
        is_rotated = bool(rotated[number])
        window = chunk if is_rotated and chunk < longest else None
        mlp = moe() if number in sparse else MlpSpec(intermediate_size=dense)
        return LayersSpec(count=1, attention=own().model_copy(update={"rope": is_rotated, "window": window}), mlp=mlp)

    return lambda: fields | in_order([layer(number) for number in range(count)])


def llama4_with_images(reader: Reader) -> Build:
    """Llama 4 as published: the language model is a part of the file."""
    if reader.get("vision_config"):
        reader.notes.append("without the parameters of its vision encoder (other_parameters of a model file)")
    return llama4(reader.part("text_config"))


def _numbers(reader: Reader, key: str) -> Sequence[int]:
    """Return a list of whole numbers, empty where it is absent or, after a problem, wrong."""
    value = reader.get(key)
    if value is None or (isinstance(value, list) and all(isinstance(entry, int) for entry in value)):
        return value or ()
    reader.problem(key, "must be a list of whole numbers")
    return ()
