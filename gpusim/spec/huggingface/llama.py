"""Llama and its kin: Mistral, Qwen2."""

from __future__ import annotations

from gpusim.spec.huggingface.blocks import decoder, gated
from gpusim.spec.huggingface.reader import Build, Reader


def llama(reader: Reader) -> Build:
    """Llama 1 to 3, Code Llama, Yi."""
    biased = reader.flag("attention_bias")
    return decoder(reader, gated(reader, qkv_bias=biased, out_bias=biased, mlp_bias=reader.flag("mlp_bias")))


def mistral(reader: Reader) -> Build:
    """Mistral 7B, Nemo: no biases; the head size may be stated."""
    return decoder(reader, gated(reader))


def qwen2(reader: Reader) -> Build:
    """Qwen2 and 2.5: biases on Q, K and V; a sliding window only where it is asked for."""
    return decoder(reader, gated(reader, qkv_bias=True), windowed=False)
