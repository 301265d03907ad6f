"""The model of an experiment: the catalog's where it has that architecture, else what the experiment states."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import SequenceMatcher
from functools import cache
from typing import Any, Final

from gpusim.errors import SpecError
from gpusim.spec.document import validate
from gpusim.spec.model import ModelSpec, MoeSpec
from gpusim.spec.names import names, read

_GATED: Final = ("swiglu", "geglu", "gated", "silu")


def model_of(stated: Mapping[str, Any]) -> ModelSpec:
    """Return the model that an experiment states.

    The catalog knows what experiments do not say (sampling, biases, longest context). Of several models with the stated
    architecture it is the one whose name is most alike.

    Raises:
        SpecError: If a figure is missing, or the architecture cannot be described.
    """
    known = _catalog()
    wanted = _figures_stated(stated)
    alike = [name for name, model in known.items() if _figures(model) == wanted]
    title = str(stated.get("name", "")).rpartition("/")[2].lower()
    same_family = [name for name in alike if name[:3] == title[:3]]
    if same_family:
        return known[max(same_family, key=lambda name: (SequenceMatcher(None, name, title).ratio(), name))]
    return _described(stated, title or "stated")


def stated_model(model: ModelSpec) -> dict[str, Any]:
    """Return *model* as an experiment states it; `model_of` is the way back.

    Raises:
        SpecError: If its layers differ, or their attention is latent.
    """
    figures = _figures(model)
    if figures is None:
        raise SpecError(f"{model.name}: layers that differ, or latent attention, cannot be stated in an experiment")
    (group,) = model.layers
    layers, hidden, heads, kv_heads, head_dim, width, vocabulary, experts, top_k = figures
    moe = {"num_experts": experts, "top_k": top_k, "expert_intermediate_size": width, "every_layer": True}
    if isinstance(group.mlp, MoeSpec) and group.mlp.num_shared_experts:
        moe["shared_expert_intermediate_size"] = group.mlp.num_shared_experts * (
            group.mlp.shared_intermediate_size or width
        )
    return {
        "name": model.name,
        "num_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": head_dim,
        "qk_norm": group.attention.qk_norm,
        "position_encoding": "rope" if group.attention.rope else "none",
        "ffn_intermediate_size": width,
        "ffn_kind": "swiglu" if group.mlp is not None and group.mlp.kind == "gated" else "plain",
        "vocab_size": vocabulary,
        "tied_embeddings": model.tie_word_embeddings,
        "max_model_len": model.max_model_len,
        "moe": moe if experts else None,
    }


@cache
def _catalog() -> dict[str, ModelSpec]:
    return {name: validate(ModelSpec, read("model", name)) for name in names("model")}


def _figures(model: ModelSpec) -> tuple[int, ...] | None:
    """Return what tells models apart, as `_figures_stated` does; None for one whose layers differ."""
    if len(model.layers) != 1:
        return None
    (group,) = model.layers
    attention, mlp = group.attention, group.mlp
    if mlp is None or attention.latent is not None:
        return None
    width = mlp.expert_intermediate_size if isinstance(mlp, MoeSpec) else mlp.intermediate_size
    experts = (mlp.num_experts, mlp.experts_per_token) if isinstance(mlp, MoeSpec) else (0, 0)
    heads = (attention.num_heads, attention.num_kv_heads, attention.head_dim)
    return (group.count, model.hidden_size, *heads, width, model.vocab_size, *experts)


def _figures_stated(stated: Mapping[str, Any]) -> tuple[int, ...]:
    moe = stated.get("moe") or {}
    width = moe["expert_intermediate_size"] if moe else _figure(stated, "ffn_intermediate_size")
    names_of = ("num_layers", "hidden_size", "num_attention_heads", "num_kv_heads", "head_dim")
    experts = (moe["num_experts"], moe["top_k"]) if moe else (0, 0)
    return (*(_figure(stated, name) for name in names_of), width, _figure(stated, "vocab_size"), *experts)


def _figure(stated: Mapping[str, Any], name: str) -> int:
    value = stated.get(name)
    if not isinstance(value, int):
        raise SpecError(f"model.{name}: the experiment does not state it")
    return value


def _described(stated: Mapping[str, Any], name: str) -> ModelSpec:
    """Return a model made of what is stated."""
    moe = stated.get("moe") or {}
    if moe and not moe.get("every_layer", True):
        raise SpecError(f"{name}: experts in some layers only, and the experiment does not say in which")
    kind = "gated" if str(stated.get("ffn_kind", "swiglu")).lower() in _GATED else "plain"
    mlp: dict[str, Any] = {"kind": kind, "intermediate_size": stated.get("ffn_intermediate_size")}
    if moe:
        mlp = {
            "kind": kind,
            "num_experts": moe["num_experts"],
            "experts_per_token": moe["top_k"],
            "expert_intermediate_size": moe["expert_intermediate_size"],
        }
        if moe.get("shared_expert_intermediate_size"):
            mlp |= {"num_shared_experts": 1, "shared_intermediate_size": moe["shared_expert_intermediate_size"]}
    attention = {
        "num_heads": _figure(stated, "num_attention_heads"),
        "num_kv_heads": _figure(stated, "num_kv_heads"),
        "head_dim": _figure(stated, "head_dim"),
        "qk_norm": bool(stated.get("qk_norm")),
        "rope": stated.get("position_encoding", "rope") == "rope",
    }
    return ModelSpec.model_validate(
        {
            "schema": 1,
            "name": name,
            "source": str(stated.get("source", "")),
            "hidden_size": _figure(stated, "hidden_size"),
            "vocab_size": _figure(stated, "vocab_size"),
            "max_model_len": int(stated.get("max_model_len") or 131072),
            "tie_word_embeddings": bool(stated.get("tied_embeddings")),
            "layers": [{"count": _figure(stated, "num_layers"), "attention": attention, "mlp": mlp}],
        }
    )
