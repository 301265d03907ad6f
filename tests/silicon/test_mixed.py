"""Attention of whole steps against what vLLM took for them: chunks with and without decodes, and decodes of two lengths."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from gpusim.silicon.layout import read_folder
from gpusim.silicon.mixed import MIXED, SKEWED
from gpusim.silicon.predictions import PREDICTED, predict
from gpusim.silicon.split import held_out
from gpusim.silicon.tables import MEASURED, columns
from helpers import shared_data

GPU = "rtx_pro_6000_server"
BANDWIDTH, PEAK = 1.597e12, 467.8e12


@cache
def measured(family):
    """Return the rows of a table as predicted, with the table."""
    (found,) = [m for m in read_folder(shared_data("silicon")) if m.family is family]
    return predict(found), found.table


def error(rows):
    return (rows[PREDICTED] / rows[MEASURED] - 1).abs().mean()


def plain_us(table, start_us, memory_efficiency, compute_efficiency):
    """``t0 + bytes / (efficiency · bandwidth) + FLOPs / (efficiency · peak)``."""
    names = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "n_heads", "n_kv_heads", "head_dim")
    new, before, decodes, context, heads, kv_heads, dim = columns(table, *names)
    read = 4 * kv_heads * dim * ((before + new) * (new > 0) + decodes * (context + 1))
    flops = 4 * heads * dim * new * (before + (new + 1) / 2)
    return start_us + 1e6 * (read / (memory_efficiency * BANDWIDTH) + flops / (compute_efficiency * PEAK))


@pytest.mark.parametrize(
    ("region", "limit"),
    [
        ("whole prompt", 0.08),  # 0.071
        ("chunk", 0.055),  # 0.041
        ("chunk and decodes", 0.065),  # 0.056
    ],
)
def test_calls_with_chunks(region, limit):
    """Mean absolute errors on sizes of chunks and numbers of decodes that were kept out of the fit."""
    rows, table = measured(MIXED)
    kept_out = rows.filter(held_out(table, MIXED.shape))
    assert error(kept_out.filter(kept_out["region"] == region)) < limit


def test_a_plain_law_is_off_more_than_twice_as_far():
    """Launch, bytes and FLOPs, all three fitted on the very rows, leave more than twice the error."""
    rows, table = measured(MIXED)
    with_chunks = (table["prefill_chunk"] > 0).to_numpy()
    mixed = table.filter(with_chunks)
    latency = mixed[MEASURED].to_numpy()
    grid = [
        (start, memory, compute)
        for start in (5, 10, 18, 30)
        for memory in (0.3, 0.4, 0.5, 0.7, 0.9)
        for compute in (0.3, 0.4, 0.5, 0.6)
    ]
    plain = min(np.mean(np.abs(plain_us(mixed, *values) / latency - 1)) for values in grid)
    assert error(rows.filter(with_chunks)) < 0.4 * plain


def test_decodes_of_two_lengths():
    """Summing up contexts and letting the longest last is as good for batches of two lengths as for uniform ones, 5 %."""
    rows, _ = measured(SKEWED)
    assert error(rows) < 0.065  # 0.057
    assert set(rows["gpu"]) == {GPU}
