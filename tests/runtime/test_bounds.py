"""Closed forms of a step that only streams."""

from __future__ import annotations

import pytest

from builders import catalog_model
from gpusim.model.layout import Layout
from gpusim.runtime.bounds import streaming_step_s

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
