"""The laws against measured kernels: mean absolute percentage error on the core rows of the shared silicon data.

Each limit is a little above what is reached now, which stands beside it: what makes a law worse is noticed. The data
replays the same KV and cycles six copies of the weights (vLLM), so L2 is on here as it never is inside a model.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
import pytest

from gpusim.model.work import AllGather, AllReduce, ReduceScatter
from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.laws.attention import AttentionRows, attention_time
from gpusim.runtime.laws.gemm import GemmRows, gemm_time
from gpusim.spec.base import DTYPE_BYTES
from gpusim.units import MiB
from helpers import shared_data
from machines import Machine, catalog_device, figures_of

DEVICES = {
    "a100_sxm": "a100-sxm-80gb",
    "h100_sxm": "h100-sxm",
    "b200_sxm": "b200-sxm",
    "rtx_pro_6000_server": "rtx-pro-6000-server",
}
TOPOLOGIES = {"a100_sxm": "dgx-a100-80gb", "h100_sxm": "dgx-h100", "b200_sxm": "hgx-b200"}
WEIGHT_COPIES = 6.0


@cache
def measured(name):
    """Return a table of the shared data."""
    return pl.read_csv(shared_data(f"silicon/{name}.csv.gz"))


def columns(table, *names):
    return [table[name].to_numpy().astype(np.float64) for name in names]


def error(predicted_s, table):
    """Mean absolute percentage error as a fraction."""
    latency_s = table["latency_us"].to_numpy() * 1e-6
    return float(np.mean(np.abs(predicted_s - latency_s) / latency_s))


def seconds_of(timing):
    return timing.duration_s(timing.memory_s())


def core_attention(gpu, dtype):
    """Rows of vLLM as the data's README counts them: usual shapes, none faster than its KV at the data sheet's rate."""
    device = catalog_device(DEVICES[gpu])
    kv_bytes = 2 * pl.col("batch") * pl.col("n_kv_heads") * pl.col("head_dim") * pl.col("ctx_len") * DTYPE_BYTES[dtype]
    return measured("attention_decode").filter(
        pl.col("gpu") == gpu,
        pl.col("engine") == "vllm",
        pl.col("kv_dtype") == dtype,
        pl.col("head_dim") == 128,
        pl.col("window") == 0,
        pl.col("n_heads") <= 16 * pl.col("n_kv_heads"),
        pl.col("ctx_len") >= 64,
        pl.col("latency_us") * 1e-6 >= kv_bytes / device.memory.bandwidth,
    )


@pytest.mark.parametrize(
    ("gpu", "dtype", "limit"),
    [
        ("a100_sxm", "bf16", 0.150),  # 0.145
        ("h100_sxm", "bf16", 0.077),  # 0.074
        ("b200_sxm", "bf16", 0.067),  # 0.064
        ("rtx_pro_6000_server", "bf16", 0.152),  # 0.148
        ("h100_sxm", "fp8", 0.067),  # 0.064
        ("b200_sxm", "fp8", 0.074),  # 0.070
        ("rtx_pro_6000_server", "fp8", 0.076),  # 0.072
    ],
)
def test_decode_attention(gpu, dtype, limit):
    """Attention of vLLM on over a thousand batches, contexts and head counts."""
    device, table = catalog_device(DEVICES[gpu]), core_attention(gpu, dtype)
    batch, context, heads, kv_heads, head_dim = columns(table, "batch", "ctx_len", "n_heads", "n_kv_heads", "head_dim")
    kv_bytes = 2 * batch * kv_heads * head_dim * context * DTYPE_BYTES[dtype]
    queries_and_outputs = 2 * batch * heads * head_dim * 2
    rows = AttentionRows(batch, context, heads, kv_heads, head_dim, kv_bytes, queries_and_outputs, 0 * batch)
    timing = attention_time(rows, laws_of(device).attention, figures_of(device), dtype, warm=True)
    assert len(table) > 1000
    assert error(seconds_of(timing), table) < limit


@pytest.mark.parametrize(
    ("gpu", "dtype", "limit"),
    [
        ("a100_sxm", "bf16", 0.073),  # 0.070
        ("h100_sxm", "bf16", 0.055),  # 0.052
        ("b200_sxm", "bf16", 0.092),  # 0.089
        ("rtx_pro_6000_server", "bf16", 0.075),  # 0.072
        ("h100_sxm", "fp8", 0.099),  # 0.095
        ("b200_sxm", "fp8", 0.178),  # 0.174
        ("rtx_pro_6000_server", "fp8", 0.091),  # 0.087
    ],
)
def test_matrix_products(gpu, dtype, limit):
    """Products of vLLM with up to 256 rows."""
    device = catalog_device(DEVICES[gpu])
    table = measured("gemm").filter(
        pl.col("gpu") == gpu,
        pl.col("engine") == "vllm",
        pl.col("dtype") == dtype,
        pl.col("m") <= 256,
        pl.col("n") >= 512,
        pl.col("k") >= 512,
    )
    m, n, k = columns(table, "m", "n", "k")
    rows = GemmRows(m, n, k, n * k * DTYPE_BYTES[dtype], 2 * m * (n + k))
    timing = gemm_time(rows, laws_of(device).gemm, figures_of(device), dtype, warm_copies=WEIGHT_COPIES)
    assert len(table) > 1000
    assert error(seconds_of(timing), table) < limit


COLLECTIVES = {"all_reduce": AllReduce, "all_gather": AllGather, "reduce_scatter": ReduceScatter}


def core_collectives(gpu, impl, op):
    table = measured("collectives").filter(pl.col("gpu") == gpu, pl.col("impl") == impl, pl.col("op") == op)
    if impl == "nccl":
        return table.filter(pl.col("bytes").is_between(512, 512 * MiB))
    return table.filter(pl.col("mode") == "graph", pl.col("bytes") <= 4 * MiB)


@pytest.mark.parametrize(
    ("gpu", "impl", "op", "limit"),
    [
        ("a100_sxm", "nccl", "all_reduce", 0.085),  # 0.082
        ("h100_sxm", "nccl", "all_reduce", 0.088),  # 0.084
        ("b200_sxm", "nccl", "all_reduce", 0.063),  # 0.060
        ("a100_sxm", "nccl", "all_gather", 0.124),  # 0.120, with the constants of all-reduce
        ("h100_sxm", "nccl", "all_gather", 0.101),  # 0.097, likewise
        ("b200_sxm", "nccl", "all_gather", 0.101),  # 0.097, likewise
        ("a100_sxm", "nccl", "reduce_scatter", 0.097),  # 0.093, likewise
        ("h100_sxm", "nccl", "reduce_scatter", 0.095),  # 0.091, likewise
        ("b200_sxm", "nccl", "reduce_scatter", 0.090),  # 0.086, likewise
        ("a100_sxm", "vllm_custom", "all_reduce", 0.055),  # 0.052
        ("h100_sxm", "vllm_custom", "all_reduce", 0.021),  # 0.019
        ("b200_sxm", "sglang_custom", "all_reduce", 0.067),  # 0.064
    ],
)
def test_collectives(gpu, impl, op, limit):
    """All-reduce, all-gather and reduce-scatter of 2 and 8 GPUs on the topologies of the catalog; the engine whose law the device has."""
    machine, table = Machine(TOPOLOGIES[gpu]), core_collectives(gpu, impl, op)
    predicted_s = []
    for ranks, size in table.select("n_gpus", "bytes").iter_rows():
        group = machine.group(*(f"gpu{i}" for i in range(ranks)))
        if impl == "nccl":
            group.laws = group.laws.model_copy(update={"engine_all_reduce": None})
        timed = group.timed(COLLECTIVES[op]("", float(size)))
        predicted_s.append(timed.fixed_s + timed.link_s)
    assert len(table) >= 30
    assert error(np.array(predicted_s), table) < limit


def test_b200_differs_by_engine():
    """A known gap: B200 has SGLang's all-reduce, and vLLM's own, whose fit was not physical, is a third off or more."""
    machine, table = Machine("hgx-b200"), core_collectives("b200_sxm", "vllm_custom", "all_reduce")
    predicted_s = [
        sum(machine.group(*(f"gpu{i}" for i in range(ranks))).timed(AllReduce("", float(size))).ticks) * 1e-12
        for ranks, size in table.select("n_gpus", "bytes").iter_rows()
    ]
    assert 0.33 < error(np.array(predicted_s), table) < 0.42  # 0.385
