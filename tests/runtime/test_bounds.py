"""Closed forms of a step that only streams."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import catalog_model
from gpusim.model.layout import Layout
from gpusim.runtime.bounds import recompute_s, streaming_step_s, swap_s, swaps_from_tokens

LLAMA = catalog_model("llama-2-7b")


def step_s(**changes):
    stated = {"context_tokens": 1e5, "weight_bandwidth": 1.5e12, "kv_bandwidth": 1.6e12} | changes
    return streaming_step_s(LLAMA, "bf16", "bf16", **stated)


def test_weights_and_kv_one_after_the_other():
    """6.738 billion weights of 2 B at one rate, 524,288 B a token at the other."""
    assert step_s() == pytest.approx(2 * 6.738e9 / 1.5e12 + 1e5 * 524_288 / 1.6e12, rel=1e-3)
    assert step_s() - step_s(context_tokens=0) == pytest.approx(1e5 * 524_288 / 1.6e12, rel=1e-9)


def test_ranks_split_both():
    """Eight ranks each stream an eighth of weights and KV, but for what every rank holds."""
    assert step_s(layout=Layout(8)) == pytest.approx(step_s() / 8, rel=1e-3)


FLOPS, BANDWIDTH, LINK = 312e12, 2.039e12, 28.8e9
"""Of an A100, at peak; of PCIe 4 x16, about what is achieved."""


@given(tokens=st.floats(1, 1e5), kv=st.floats(1e3, 1e6), weights=st.floats(1e9, 1e11))
def test_swapping_wins_from_where_both_take_as_long(tokens, kv, weights):
    """Above the break-even context a swap takes less time than computing it again, below more; at it both take the same."""
    even = swaps_from_tokens(kv, weights, link=LINK, flops=FLOPS, bandwidth=BANDWIDTH)
    gain_s = lambda n: recompute_s(n, weights, flops=FLOPS, bandwidth=BANDWIDTH) - swap_s(n * kv, LINK)
    if math.isinf(even):
        assert gain_s(tokens) < 0
    else:
        assert gain_s(even) == pytest.approx(0, abs=1e-9 * swap_s(even * kv, LINK))
        assert (gain_s(tokens) > 0) == (tokens > even) or tokens == pytest.approx(even)


def test_the_first_tokens_beside_decodes_are_free():
    """As many as the matrix units multiply while memory brings the weights: 312e12 / 2.039e12 of 16-bit weights."""
    free = FLOPS / BANDWIDTH
    assert recompute_s(free * (1 - 1e-9), 16e9, flops=FLOPS, bandwidth=BANDWIDTH) == 0
    assert recompute_s(free + 100, 16e9, flops=FLOPS, bandwidth=BANDWIDTH) == pytest.approx(100 * 16e9 / FLOPS)


def test_a_swap_pays_latency_twice():
    """Out and back: 2 (latency + bytes / bandwidth)."""
    assert swap_s(28.8e6, 28.8e9, 1e-6) == pytest.approx(2 * (1e-6 + 1e-3), rel=1e-12)
