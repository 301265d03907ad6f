"""The layers of one transformer block and what follows it, as vLLM's profiler of layers sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import polars as pl

from gpusim.core.arrays import FloatArray
from gpusim.model.around_layers import LOGIT_BYTES
from gpusim.model.work import Elementwise, Gemm, Kernel
from gpusim.silicon.calls import Calls, Family
from gpusim.silicon.elementwise import LAW
from gpusim.silicon.tables import columns, groups
from gpusim.spec.device import DeviceSpec
from gpusim.spec.names import names, read

ENGINE: Final = "vllm"
WIDTH: Final = 2.0
"""Bytes of an element: the source has bf16 alone."""

Sizes: TypeAlias = dict[str, FloatArray]
"""By column, (rows,)."""


def _gemm(name: str, s: Sizes, n: FloatArray, k: FloatArray) -> Kernel:
    return Gemm(name, s["tokens"], n, k, "bf16", WIDTH * n * k, WIDTH * s["tokens"] * (n + k))


def _norm(s: Sizes) -> Kernel:
    """Fused with the residual's sum."""
    size = 2 * WIDTH * s["tokens"] * s["hidden"]
    return Elementwise("norm", size, size, "norm", s["tokens"], s["hidden"])


def _rope(s: Sizes) -> Kernel:
    elements = (s["n_heads"] + s["n_kv_heads"]) * s["head_dim"] / s["tp"]
    size = WIDTH * s["tokens"] * elements
    return Elementwise("rope", size, size, "rope", s["tokens"], elements / 2)


def _activation(s: Sizes) -> Kernel:
    width = s["ffn"] / s["tp"]
    size = WIDTH * s["tokens"] * width
    return Elementwise("activation", 2 * size, size, "activation", s["tokens"], width)


def _embedding(s: Sizes) -> Kernel:
    """Of prompts that repeat one token, as the profiler's do: its row stays in L2."""
    size = WIDTH * s["tokens"] * s["hidden"]
    return Elementwise("embedding", size, size, "embedding", s["tokens"], s["hidden"])


def _sampler(s: Sizes) -> Kernel:
    """Greedy."""
    entries = s["tokens"] * s["vocabulary"]
    return Elementwise("sample", (WIDTH + LOGIT_BYTES) * entries, LOGIT_BYTES * entries, "sample")


def _heads(s: Sizes, *, query: float, key: float) -> FloatArray:
    width: FloatArray = (query * s["n_heads"] + key * s["n_kv_heads"]) * s["head_dim"] / s["tp"]
    return width


LAYERS: Final[dict[str, Callable[[Sizes], Kernel]]] = {
    "qkv_proj": lambda s: _gemm("qkv", s, _heads(s, query=1, key=2), s["hidden"]),
    "o_proj": lambda s: _gemm("o", s, s["hidden"], _heads(s, query=1, key=0)),
    "gate_up_proj": lambda s: _gemm("gate_up", s, 2 * s["ffn"] / s["tp"], s["hidden"]),
    "down_proj": lambda s: _gemm("down", s, s["hidden"], s["ffn"] / s["tp"]),
    "lm_head": lambda s: _gemm("lm_head", s, s["vocabulary"] / s["tp"], s["hidden"]),
    "layernorm": _norm,
    "final_layernorm": _norm,
    "rotary_emb": _rope,
    "act_fn": _activation,
    "embedding": _embedding,
    "sampler": _sampler,
}
_WHOLE_VOCABULARY: Final = ("lm_head", "sampler")
_COLUMNS: Final = ("tp", "tokens", "hidden", "ffn", "n_heads", "n_kv_heads", "head_dim")
_GEMM_LAW: Final = ("engines", ENGINE, "gemm", "bf16")


def _calls(table: pl.DataFrame, _: DeviceSpec) -> Sequence[Calls]:
    found = []
    known = table.filter(pl.col("layer").is_in(list(LAYERS)))
    for (layer, model), rows in groups(known, "layer", "model"):
        sizes = dict(zip(_COLUMNS, columns(rows, *_COLUMNS), strict=True))
        if layer in _WHOLE_VOCABULARY:
            vocabulary = _vocabulary(model)
            if vocabulary is None:
                continue
            sizes["vocabulary"] = vocabulary + 0 * sizes["tokens"]
        work = LAYERS[layer](sizes)
        law = _GEMM_LAW if isinstance(work, Gemm) else LAW
        found.append(Calls(rows["row"].to_numpy(), (work,), law))
    return found


def _vocabulary(model: str) -> float | None:
    """Return the vocabulary of the model of the catalog that a table calls *model*."""
    wanted = model.lower().removesuffix("-instruct")
    return float(read("model", wanted).data["vocab_size"]) if wanted in names("model") else None


BLOCK: Final = Family(
    kind="sdense",
    file="dense_lss",
    words=("model", "layer"),
    numbers=_COLUMNS,
    calls=_calls,
    shape=("model", "layer", "tp"),
    core=lambda *_: pl.lit(value=True),
    region=lambda: pl.col("layer"),
    reasons=(("a layer that is not modelled", ~pl.col("layer").is_in(list(LAYERS))),),
)
