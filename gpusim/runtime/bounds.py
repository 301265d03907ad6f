"""Closed forms: what a step takes at least, and back-of-envelope estimates to hold against the simulation."""

from __future__ import annotations

from gpusim.model.footprint import kv_bytes_per_token, weight_bytes
from gpusim.model.layout import Layout
from gpusim.spec.base import Dtype
from gpusim.spec.model import ModelSpec


def streaming_step_s(
    model: ModelSpec,
    weights: Dtype,
    kv: Dtype,
    *,
    context_tokens: float,
    weight_bandwidth: float,
    kv_bandwidth: float,
    layout: Layout | None = None,
) -> float:
    """Seconds of a decode step that does nothing but stream all weights and all KV once, one after the other.

    Args:
        model: Its weights, the whole embedding included, as such estimates count them.
        weights: Stored type of the weights.
        kv: Stored type of the cache.
        context_tokens: Of all sequences together.
        weight_bandwidth: Bytes/s at which a rank reads weights.
        kv_bandwidth: Bytes/s at which it reads KV.
        layout: How the model is split; default: whole.
    """
    layout = layout or Layout()
    weights_s = weight_bytes(model, weights, layout) / weight_bandwidth
    return weights_s + context_tokens * kv_bytes_per_token(model, kv, layout) / kv_bandwidth
