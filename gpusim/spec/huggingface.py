"""Models by their Hugging Face ``config.json``: Llama, Mistral, Qwen2 and Falcon families.

What the file leaves out is what the model's class in `transformers` takes. RoPE scaling is not applied: the longest
request is `max_position_embeddings`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gpusim.spec.document import Document
from gpusim.spec.model import AttentionSpec, LayersSpec, MlpSpec, ModelSpec
from gpusim.spec.problems import Problem

_ABSENT_FEATURES: Final = {
    "num_local_experts": "mixture of experts; use a model with a dense MLP",
    "num_experts": "mixture of experts; use a model with a dense MLP",
    "n_routed_experts": "mixture of experts; use a model with a dense MLP",
    "kv_lora_rank": "multi-head latent attention; use a model with MHA, GQA or MQA",
    "quantization_config": "quantised checkpoints; take the unquantised one and state dtype.weights in the scenario",
}
"""Keys whose presence means something gpusim does not model."""

_FALCON_CONTEXT: Final = 2048
"""Falcon's default for `max_position_embeddings`, which the published files leave out."""


def is_config(data: dict[str, Any]) -> bool:
    """Say whether *data* is a Hugging Face configuration rather than a model file of gpusim."""
    return "layers" not in data and ("model_type" in data or "architectures" in data)


def model_from_config(document: Document) -> ModelSpec:
    """Translate the ``config.json`` in *document*.

    With a sliding window, `max_model_len` is the window: up to it attention is full, and longer requests are refused.

    Raises:
        SpecError: With everything that is missing, wrong or not yet modelled, by key and line.
    """
    reader = _Reader(document)
    family = _family(reader)
    reader.refuse_absent_features()
    if family is None:
        raise document.error(reader.problems)
    layers = _FAMILIES[family](reader)
    sizes = {key: reader.size(key) for key in ("hidden_size", "vocab_size")}
    max_model_len, limit = _context(reader, family)
    norm_bias = family == "falcon"
    tied = reader.flag("tie_word_embeddings", default=family == "falcon")
    if reader.problems:
        raise document.error(reader.problems)
    return ModelSpec(
        name=_name(document),
        source=f"{document.label}{limit}",
        max_model_len=max_model_len,
        attention_window=max_model_len if limit else None,
        tie_word_embeddings=tied,
        final_norm_bias=norm_bias,
        layers=[layers()],
        **sizes,
    )


@dataclass
class _Reader:
    """Takes typed values out of a configuration and collects what is wrong with them."""

    document: Document
    problems: list[Problem] = field(default_factory=list)

    def get(self, key: str) -> Any:
        return self.document.data.get(key)

    def size(self, key: str, default: int | None = None) -> int:
        """Return a whole number of at least 1; after a problem, 1."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if value is None:
            self.problem(key, "this key is required")
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self.problem(key, f"must be a whole number of at least 1, not {value!r}")
        else:
            return value
        return 1

    def flag(self, key: str, *, default: bool = False) -> bool:
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            self.problem(key, f"must be true or false, not {value!r}")
        return value if isinstance(value, bool) else default

    def problem(self, key: str, message: str) -> None:
        self.problems.append(Problem((key,), message))

    def is_sound(self, *keys: str) -> bool:
        return not any(problem.where[0] in keys for problem in self.problems)

    def refuse_absent_features(self) -> None:
        for key, what in _ABSENT_FEATURES.items():
            if self.get(key):
                self.problem(key, f"not yet: {what}")


_Layers = Callable[[], LayersSpec]
"""Builds the layers once it is known that their numbers are sound."""


def _family(reader: _Reader) -> str | None:
    """Return the family by `model_type`, else by the name of the architecture."""
    known = ", ".join(_FAMILIES)
    model_type = reader.get("model_type")
    if model_type in _FAMILIES:
        return str(model_type)
    if model_type is not None:
        reader.problem("model_type", f"not yet: {model_type}; gpusim reads {known}")
        return None
    architectures = reader.get("architectures")
    first = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    family = first.removesuffix("ForCausalLM").lower()
    if family in _FAMILIES and first.endswith("ForCausalLM"):
        return family
    if first:
        reader.problem("architectures", f"not yet: {first}; gpusim reads {known}")
    else:
        reader.problem("model_type", f"this key is required; gpusim reads {known}")
    return None


def _llama(reader: _Reader) -> _Layers:
    biased = reader.flag("attention_bias")
    return _gated(reader, qkv_bias=biased, out_bias=biased, mlp_bias=reader.flag("mlp_bias"))


def _mistral(reader: _Reader) -> _Layers:
    return _gated(reader, qkv_bias=False, out_bias=False, mlp_bias=False)


def _qwen2(reader: _Reader) -> _Layers:
    return _gated(reader, qkv_bias=True, out_bias=False, mlp_bias=False)


def _gated(reader: _Reader, *, qkv_bias: bool, out_bias: bool, mlp_bias: bool) -> _Layers:
    heads = reader.size("num_attention_heads")
    kv_heads = reader.size("num_key_value_heads", heads)
    attention = _attention(reader, kv_heads, "num_key_value_heads", qkv_bias=qkv_bias, out_bias=out_bias)
    intermediate, count = reader.size("intermediate_size"), reader.size("num_hidden_layers")
    mlp = MlpSpec(kind="gated", intermediate_size=intermediate, bias=mlp_bias)
    return lambda: LayersSpec(count=count, attention=attention(), mlp=mlp)


def _falcon(reader: _Reader) -> _Layers:
    heads, grouped = reader.size("num_attention_heads"), reader.flag("new_decoder_architecture")
    is_mqa = not grouped and reader.flag("multi_query", default=True)
    kv_heads = 1 if is_mqa else reader.size("num_kv_heads", heads)
    bias = reader.flag("bias")
    attention = _attention(reader, kv_heads, "num_kv_heads", qkv_bias=bias, out_bias=bias)
    intermediate = reader.size("ffn_hidden_size", 4 * reader.size("hidden_size"))
    mlp = MlpSpec(kind="plain", intermediate_size=intermediate, bias=bias)
    # The grouped architecture is parallel whatever the flag says.
    parallel = grouped or reader.flag("parallel_attn", default=True)
    norms = reader.size("num_ln_in_parallel_attn", 2 if grouped else 1) if parallel else 2
    count = reader.size("num_hidden_layers")
    return lambda: LayersSpec(
        count=count, attention=attention(), mlp=mlp, parallel=parallel, num_norms=norms, norm_bias=True
    )


def _attention(
    reader: _Reader, kv_heads: int, kv_key: str, *, qkv_bias: bool, out_bias: bool
) -> Callable[[], AttentionSpec]:
    heads = reader.size("num_attention_heads")
    if reader.is_sound("num_attention_heads", kv_key) and heads % kv_heads:
        reader.problem(kv_key, f"{kv_heads} does not divide num_attention_heads = {heads}")
    head_dim = _head_dim(reader, heads)
    return lambda: AttentionSpec(
        num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim, qkv_bias=qkv_bias, out_bias=out_bias
    )


def _head_dim(reader: _Reader, heads: int) -> int:
    if reader.get("head_dim") is not None:
        return reader.size("head_dim")
    hidden = reader.size("hidden_size")
    if reader.is_sound("num_attention_heads", "hidden_size") and hidden % heads:
        reader.problem("num_attention_heads", f"{heads} does not divide hidden_size = {hidden}, and head_dim is absent")
    return max(1, hidden // heads)


def _context(reader: _Reader, family: str) -> tuple[int, str]:
    """Return the longest request, and what to say of it where a sliding window sets it."""
    default = _FALCON_CONTEXT if family == "falcon" else None
    longest = reader.size("max_position_embeddings", default)
    if reader.get("sliding_window") is None or not reader.flag("use_sliding_window", default=family != "qwen2"):
        return longest, ""
    window = reader.size("sliding_window")
    if window >= longest:
        return longest, ""
    return window, f"; longest request {window} tokens, its sliding window, beyond which attention is not modelled yet"


def _name(document: Document) -> str:
    """Return the model's own name, else that of its folder or file."""
    path = Path(document.label)
    stem = path.absolute().parent.name if path.stem == "config" else path.stem
    return str(document.data.get("_name_or_path") or stem).rstrip("/").rsplit("/", 1)[-1]


_FAMILIES: Final[dict[str, Callable[[_Reader], _Layers]]] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "falcon": _falcon,
}
