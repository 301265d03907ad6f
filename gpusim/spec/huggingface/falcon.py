"""Falcon: MQA or GQA, attention and MLP in parallel, LayerNorm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gpusim.spec.huggingface.blocks import attention, decoder
from gpusim.spec.huggingface.reader import Build, Reader
from gpusim.spec.model import LayersSpec, MlpSpec

_CONTEXT: Final = 2048
"""Default for `max_position_embeddings`, which the published files leave out."""


def falcon(reader: Reader) -> Build:
    """Falcon 7B, 40B, 180B."""
    return decoder(reader, _layers(reader), tied=True, context=_CONTEXT, final_norm_bias=True)


def _layers(reader: Reader) -> Callable[[], LayersSpec]:
    heads, grouped = reader.size("num_attention_heads"), reader.flag("new_decoder_architecture")
    is_mqa = not grouped and reader.flag("multi_query", default=True)
    kv_heads = 1 if is_mqa else reader.size("num_kv_heads", heads)
    bias = reader.flag("bias")
    own = attention(reader, kv_heads, "num_kv_heads", qkv_bias=bias, out_bias=bias, rope=not reader.flag("alibi"))
    intermediate = reader.size("ffn_hidden_size", 4 * reader.size("hidden_size"))
    mlp = MlpSpec(kind="plain", intermediate_size=intermediate, bias=bias)
    # The grouped architecture is parallel whatever the flag says.
    parallel = grouped or reader.flag("parallel_attn", default=True)
    norms = reader.size("num_ln_in_parallel_attn", 2 if grouped else 1) if parallel else 2
    count = reader.size("num_hidden_layers")
    return lambda: LayersSpec(count=count, attention=own(), mlp=mlp, parallel=parallel, num_norms=norms, norm_bias=True)
