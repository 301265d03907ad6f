"""What `attention:` in a scenario does to a model."""

from __future__ import annotations

from gpusim.spec.model import AttentionSpec, LayersSpec, ModelSpec


def with_attention(model: ModelSpec, attention: str | None, *, keep_weights: bool = False) -> ModelSpec:
    """Return *model* with the KV heads of every layer replaced.

    Args:
        model: The model as published.
        attention: ``mha``, ``mqa``, ``gqa:N`` with N KV heads, or None for the model's own.
        keep_weights: The projections keep their size and only the cache changes. That is no model anyone can build;
            it is the assumption of back-of-envelope comparisons.

    Raises:
        ValueError: If N does not divide the number of heads.
    """
    if attention is None:
        return model
    layers = [_replaced(group, attention, keep_weights) for group in model.layers]
    return model.model_copy(update={"layers": layers})


def without_wide_windows(model: ModelSpec, longest: int) -> ModelSpec:
    """Return *model* without the windows that hold *longest* tokens, all that a request has: they leave nothing out."""
    if all(window < longest for window in model.windows):
        return model
    layers = [
        group
        if (group.attention.window or 0) < longest
        else group.model_copy(update={"attention": group.attention.model_copy(update={"window": None})})
        for group in model.layers
    ]
    return model.model_copy(update={"layers": layers})


def _replaced(group: LayersSpec, attention: str, keep_weights: bool) -> LayersSpec:
    own = group.attention
    if own.latent is not None:
        raise ValueError("multi-head latent attention has no KV heads to replace; leave it out")
    num_kv_heads = {"mha": own.num_heads, "mqa": 1}.get(attention) or int(attention.removeprefix("gqa:"))
    if own.num_heads % num_kv_heads:
        raise ValueError(f"{num_kv_heads} KV heads do not divide num_heads = {own.num_heads}")
    kept = (own.projection_kv_heads or own.num_kv_heads) if keep_weights else None
    changed = AttentionSpec(
        **own.model_dump(exclude={"num_kv_heads", "projection_kv_heads"}),
        num_kv_heads=num_kv_heads,
        projection_kv_heads=kept,
    )
    return group.model_copy(update={"attention": changed})
