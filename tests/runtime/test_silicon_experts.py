"""Latent attention against measured kernels, like `test_silicon`: each limit a little above what is reached.

Beside it stands what the plain `t0 + bytes / (efficiency · bandwidth)` reaches when its two parameters are fitted to the
same rows (`benchmarks/fit_mla.py`).
"""

from __future__ import annotations

import fit_mla
import numpy as np
import pytest

from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.laws.mla import DecodeRows, decode_time
from helpers import shared_data
from machines import catalog_device, figures_of


def error(predicted_s, latency_s):
    """Mean absolute percentage error as a fraction."""
    return float(np.mean(np.abs(predicted_s - latency_s) / latency_s))


@pytest.mark.parametrize(
    ("gpu", "dtype", "limit"),
    [
        ("a100_sxm", "bf16", 0.210),  # 0.200, plain 0.355
        ("h100_sxm", "bf16", 0.063),  # 0.060, plain 0.133
        ("h100_sxm", "fp8", 0.070),  # 0.067, plain 0.063: a kernel that converts the whole cache
        ("b200_sxm", "bf16", 0.094),  # 0.090, plain 0.143
        ("b200_sxm", "fp8", 0.106),  # 0.102, plain 0.171
    ],
)
def test_absorbed_decodes(gpu, dtype, limit):
    """Latent attention of 1 to 1,024 sequences, contexts of 64 tokens and more; A100's calls were launched one by one."""
    device = catalog_device(fit_mla.DEVICES[gpu])
    law, figures = laws_of(device).mla[dtype], figures_of(device)
    table = fit_mla.measured(shared_data("silicon/mla_decode.csv.gz").parent, gpu, dtype)
    predicted_s = np.zeros(len(table))
    for (heads,), rows in table.with_row_index().group_by("n_heads"):
        batch, context = (rows[name].to_numpy().astype(np.float64) for name in ("batch", "ctx_len"))
        sizes = DecodeRows(batch, batch * context, heads, fit_mla.LATENT, fit_mla.ROPE)
        timing = decode_time(sizes, law, figures, dtype, eager=True)
        predicted_s[rows["index"].to_numpy()] = timing.duration_s(timing.memory_s())
    assert len(table) > 600
    assert error(predicted_s, table["latency_us"].to_numpy() * 1e-6) < limit
