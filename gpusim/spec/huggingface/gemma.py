"""Gemma 2 and 3: local and global layers by turns, a norm before and behind each block."""

from __future__ import annotations

from typing import Any, Final

from gpusim.spec.huggingface.blocks import decoder, gated
from gpusim.spec.huggingface.reader import Build, Reader
from gpusim.spec.model import LayersSpec

_BOTH: Final = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
}
_GEMMA_2: Final = _BOTH | {"vocab_size": 256_000, "max_position_embeddings": 8_192, "final_logit_softcapping": 30.0}
_GEMMA_3: Final = _BOTH | {"vocab_size": 262_208, "max_position_embeddings": 131_072, "sliding_window_pattern": 6}
"""Defaults of `transformers`, which the published files of Gemma 3 leave out where they hold."""


def gemma2(reader: Reader) -> Build:
    """Gemma 2: every other layer has a window, the first one too."""
    return _gemma(reader.over(_GEMMA_2), 2)


def gemma3(reader: Reader) -> Build:
    """Gemma 3, text alone: five layers with a window to one without; norms on Q and K."""
    reader = reader.over(_GEMMA_3)
    return _gemma(reader, reader.size("sliding_window_pattern"), qk_norm=True)


def gemma3_with_images(reader: Reader) -> Build:
    """Gemma 3 from 4B on, of which text and output need the language model alone."""
    reader.notes.append("the language model alone, without the vision tower")
    return gemma3(reader.part("text_config"))


def _gemma(reader: Reader, every: int, **more: Any) -> Build:
    """Read a model in which one layer of *every* has no window; *more* are further fields of its attention."""
    biased = reader.flag("attention_bias")
    plain = gated(reader, qkv_bias=biased, out_bias=biased, **more)

    def layers() -> LayersSpec:
        return plain().model_copy(update={"post_norms": True})

    capped = reader.get("final_logit_softcapping") is not None
    return decoder(reader, layers, local=lambda layer: (layer + 1) % every != 0, logit_softcap=capped)
