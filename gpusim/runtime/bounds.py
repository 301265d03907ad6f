"""Closed forms: what a step takes at least, and back-of-envelope estimates to hold against the simulation."""

from __future__ import annotations

import math

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


def swap_s(kv_bytes: float, bandwidth: float, latency_s: float = 0.0) -> float:
    """Seconds that steps wait for KV to go to host memory and come back, on links where nothing else moves.

    Args:
        kv_bytes: On one rank, whole blocks.
        bandwidth: Bytes/s of the way to the host, of this rank's part of it where ranks share links.
        latency_s: Of the way.
    """
    return 2 * (latency_s + kv_bytes / bandwidth)


def recompute_s(num_tokens: float, weight_bytes: float, *, flops: float, bandwidth: float) -> float:
    """Seconds by which a step of decodes is longer because it computes tokens of a preempted request beside them.

    A step that only decodes waits for its weights, 16 bits each, and multiplies them with few tokens; the first tokens
    beside are free.

    Args:
        num_tokens: Computed again.
        weight_bytes: On one rank.
        flops: FLOP/s of its matrix units, dense.
        bandwidth: Bytes/s of its memory.
    """
    return max(0.0, num_tokens * weight_bytes / flops - weight_bytes / bandwidth)


def swaps_from_tokens(
    kv_bytes_per_token: float, weight_bytes: float, *, link: float, flops: float, bandwidth: float
) -> float:
    """Return the context from which on swapping takes less time than recomputing; infinite where it never does.

    Args:
        kv_bytes_per_token: On one rank.
        weight_bytes: See `recompute_s`.
        link: Bytes/s of the way to the host, which takes no time beside.
        flops: See `recompute_s`.
        bandwidth: See `recompute_s`.
    """
    gained_s = weight_bytes / flops - 2 * kv_bytes_per_token / link
    return weight_bytes / bandwidth / gained_s if gained_s > 0.0 else math.inf
