"""Llama and its kin: GQA with rotary positions, a gated MLP, RMSNorm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gpusim.spec.huggingface.blocks import decoder, gated
from gpusim.spec.huggingface.reader import Build, Reader

_QWEN_FULL_LAYERS: Final = 28
"""Qwen's default for `max_window_layers`."""
_QWEN3_HEAD_DIM: Final = 128
"""Qwen3's default for `head_dim`, whatever its hidden size."""


def llama(reader: Reader) -> Build:
    """Llama 1 to 3, Code Llama, Yi; Granite, which scales what Llama does not."""
    biased = reader.flag("attention_bias")
    return decoder(reader, gated(reader, qkv_bias=biased, out_bias=biased, mlp_bias=reader.flag("mlp_bias")))


def mistral(reader: Reader) -> Build:
    """Mistral 7B, Nemo, Phi-3 and Phi-4: no biases; the head size may be stated."""
    return decoder(reader, gated(reader))


def qwen2(reader: Reader) -> Build:
    """Qwen2 and 2.5: biases on Q, K and V; a sliding window only where it is asked for."""
    return decoder(reader, gated(reader, qkv_bias=True), windowed=False, local=_from_layer(reader))


def qwen3(reader: Reader) -> Build:
    """Qwen3: norms on Q and K instead of biases."""
    biased = reader.flag("attention_bias")
    layers = gated(reader, qkv_bias=biased, out_bias=biased, default_dim=_QWEN3_HEAD_DIM, qk_norm=True)
    return decoder(reader, layers, windowed=False, local=_from_layer(reader))


def _from_layer(reader: Reader) -> Callable[[int], bool]:
    """Return which layers have Qwen's window, where it is used: all but the first `max_window_layers`."""
    first = reader.get("max_window_layers")
    full = _QWEN_FULL_LAYERS if first is None else 0 if first == 0 else reader.size("max_window_layers")
    return lambda layer: layer >= full


def internlm2(reader: Reader) -> Build:
    """InternLM 2 and 2.5: one flag for the biases of attention."""
    biased = reader.flag("bias", default=True)
    return decoder(reader, gated(reader, qkv_bias=biased, out_bias=biased))
