"""Experts against measured kernels, like `test_silicon`: each limit a little above what is reached.

Beside it stands what the plain `t0 + bytes / (efficiency · bandwidth)` reaches when its two parameters are fitted to the
same rows (`benchmarks/fit_moe.py`).
"""

from __future__ import annotations

import fit_moe
import numpy as np
import pytest

from gpusim.runtime.default_laws import laws_of
from helpers import shared_data
from machines import catalog_device, figures_of


def error(predicted_s, latency_s):
    """Mean absolute percentage error as a fraction."""
    return float(np.mean(np.abs(predicted_s - latency_s) / latency_s))


@pytest.mark.parametrize(
    ("gpu", "dtype", "limit"),
    [
        ("a100_sxm", "bf16", 0.238),  # 0.230, plain 0.331
        ("h100_sxm", "bf16", 0.110),  # 0.106, plain 0.155
        ("h100_sxm", "fp8", 0.098),  # 0.094, plain 0.150
        ("h100_sxm", "fp8_block", 0.086),  # 0.082, plain 0.125
        ("b200_sxm", "bf16", 0.138),  # 0.134, plain 0.175
        ("b200_sxm", "fp8", 0.129),  # 0.124, plain 0.183
        ("b200_sxm", "fp8_block", 0.114),  # 0.109, plain 0.192
        ("rtx_pro_6000_server", "bf16", 0.114),  # 0.109, plain 0.134
        ("rtx_pro_6000_server", "fp8", 0.140),  # 0.135, plain 0.159
    ],
)
def test_layers_of_experts(gpu, dtype, limit):
    """Fused layers of vLLM, routed as the benchmark routed them: 17 shapes, splits over up to 256 ranks, 1 to 1024 tokens."""
    device = catalog_device(fit_moe.DEVICES[gpu])
    table = fit_moe.measured(shared_data("silicon/moe.csv.gz").parent, gpu, dtype)
    predict = fit_moe.predictor(table, dtype, figures_of(device), laws_of(device))
    assert len(table) > 1500
    assert error(predict(laws_of(device).moe[dtype]), table["latency_s"].to_numpy()) < limit


def test_a_popular_expert_is_routed_like_the_benchmark():
    """Its loads follow a power law: all choices are dealt out, none twice to a token, and the fullest rank is measured."""
    moe = fit_moe.MoeSpec(num_experts=64, experts_per_token=4, expert_intermediate_size=1)
    for tokens in (1, 16, 300):
        whole = fit_moe.counts(tokens, moe, 1, "power_law_1.2", 0)
        fullest = fit_moe.counts(tokens, moe, 8, "power_law_1.2", 0)
        assert whole.sum() == 4 * tokens
        assert whole.max() <= tokens
        assert len(fullest) == 8
        assert fullest.sum() >= 4 * tokens / 8
