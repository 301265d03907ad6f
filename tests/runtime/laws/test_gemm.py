"""Matrix products: asymptotes at peak, the closed form term by term, which tile is taken, and where L2 helps."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.laws.gemm import MOST_ROWS, GemmRows, gemm_time
from machines import catalog_device, figures_of

GPUS = ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "rtx-pro-6000-server"]
WIDTH = {"bf16": 2, "fp8": 1}
KERNELS = [
    *((name, "vllm", "bf16") for name in GPUS),
    *((name, engine, stored) for name in GPUS[1:] for engine, stored in (("vllm", "fp8"), ("trtllm", "fp8_block"))),
]


def rows_of(*shapes, dtype="bf16", copies=None):
    """Return rows (m, n, k)."""
    m, n, k = np.array(shapes, dtype=float).T
    weight_bytes = n * k * WIDTH[dtype]
    return GemmRows(m, n, k, weight_bytes, copies and copies * weight_bytes)


def timing_of(device, rows, engine="vllm", stored="bf16", *, is_alone=False):
    """Return the terms of *rows* by the kernels of *engine*."""
    laws, dtype = laws_of(device, engine), stored.removesuffix("_block")
    in_blocks = stored != dtype
    figures = figures_of(device)
    return gemm_time(rows, laws.gemm, laws.physics.matrix, figures, dtype, in_blocks=in_blocks, is_alone=is_alone)


def seconds_of(device, *shapes, engine="vllm", stored="bf16"):
    """Return what cold products take."""
    timing = timing_of(device, rows_of(*shapes, dtype=stored.removesuffix("_block")), engine, stored)
    return timing.duration_s(timing.memory_s())


def cubes(*values):
    """Return the smooth maximum with exponent 3."""
    return sum(value**3 for value in values) ** (1 / 3)


def scalar_gemm_s(device, m, n, k, engine, stored):
    """The law written out for one product whose weights are not in L2, in plain floats."""
    laws = laws_of(device, engine)
    law, matrix, dtype = laws.gemm[stored], laws.physics.matrix, stored.removesuffix("_block")
    rate = matrix.streaming * device.memory.efficiency * device.memory.bandwidth
    l2, sms, width = matrix.l2_speedup * rate, device.compute.sm_count, WIDTH[dtype]
    flops = matrix.efficiency[stored] * device.compute.peak[dtype] / sms
    heights = sorted({height for height, _ in law.tiles})
    lowest = next((height for height in heights if height >= m), heights[-1])
    best = float("inf")
    for tile_m, tile_n in law.tiles:
        if law.choice == "rows" and tile_m != lowest:
            continue
        for split in law.splits:
            depth = ceil(k / split)
            tiles = ceil(m / tile_m) * ceil(n / tile_n) * split
            intake = depth * (tile_m + tile_n) * width
            one = max(intake / matrix.sm_bandwidth, 2 * tile_m * tile_n * depth / flops)
            tile = cubes(ceil(tiles / sms) * one, (tiles * intake + 2 * m * n) / l2)
            extra = law.t_split_k + 8 * split * m * n / l2 if split > 1 else 0.0
            best = min(best, cubes(tile, width * n * k / (law.memory_factor * rate)) + extra)
    if dtype == "fp8":
        best += ceil(m / sms) * 4 * k / matrix.row_bandwidth + 3 * m * k / l2
    return best + law.t0


@settings(max_examples=60)
@given(kernel=st.sampled_from(KERNELS), m=st.integers(1, 4096), n=st.integers(64, 30_000), k=st.integers(64, 30_000))
def test_the_law_written_out(kernel, m, n, k):
    """The vectorised law is the minimum over tiles and splits of the formula, computed one by one."""
    name, engine, stored = kernel
    device = catalog_device(name)
    found = seconds_of(device, (m, n, k), engine=engine, stored=stored)[0]
    assert found == pytest.approx(scalar_gemm_s(device, m, n, k, engine, stored), rel=1e-12)


@pytest.mark.parametrize("name", GPUS)
def test_a_large_product_computes_at_its_efficiency(name):
    """16,384 cubed takes its FLOPs at `efficiency` of the peak, and at most a quarter more for tiles on their way from L2."""
    device = catalog_device(name)
    efficiency, size = laws_of(device).physics.matrix.efficiency["bf16"], 16_384
    expected = 2 * size**3 / (efficiency * device.compute.peak["bf16"])
    assert expected <= seconds_of(device, (size, size, size))[0] < 1.25 * expected


@pytest.mark.parametrize(("name", "engine", "stored"), KERNELS)
def test_few_rows_stream_the_weights(name, engine, stored):
    """Two rows times 2 GB of weights are bound by memory at `streaming` of what long reads achieve."""
    device, width = catalog_device(name), WIDTH[stored.removesuffix("_block")]
    some, more = seconds_of(device, (2, 32_768, 32_768), (2, 65_536, 65_536), engine=engine, stored=stored)
    more_bytes = (65_536**2 - 32_768**2) * width
    rate = laws_of(device).physics.matrix.streaming * device.memory.efficiency * device.memory.bandwidth
    assert 0.7 * rate < more_bytes / (more - some) <= rate


@settings(max_examples=25)
@given(name=st.sampled_from(GPUS), m=st.integers(1, 2048), n=st.integers(64, 20_000), k=st.integers(64, 20_000))
def test_no_product_beats_the_roofline(name, m, n, k):
    """Cold weights take at least their bytes at peak, and the FLOPs at peak."""
    device = catalog_device(name)
    floor = max(2 * n * k / device.memory.bandwidth, 2 * m * n * k / device.compute.peak["bf16"])
    assert seconds_of(device, (m, n, k))[0] > floor


@settings(max_examples=25)
@given(name=st.sampled_from(GPUS), n=st.integers(64, 20_000), k=st.integers(64, 20_000))
def test_more_rows_never_take_less(name, n, k):
    """The time grows with the number of rows, or stays."""
    shapes = [(m, n, k) for m in (1, 2, 8, 16, 17, 64, 65, 256, 1024)]
    assert (np.diff(seconds_of(catalog_device(name), *shapes)) >= 0).all()


def test_a_short_reduction_is_not_split():
    """On H100 a split pays where one SM would work through a long reduction: 512 columns of 16,384, not of 512."""
    device = catalog_device("h100-sxm")
    t0 = laws_of(device).gemm["bf16"].t0
    long, short = (timing_of(device, rows_of((8, 512, k))).fixed_s[0] for k in (16_384, 512))
    assert short == t0
    assert long > t0 + laws_of(device).gemm["bf16"].t_split_k


def test_rows_up_to_a_tile_cost_the_same():
    """1 to 64 rows, in 16 bit, are one tile: nothing but the output differs."""
    few, many = seconds_of(catalog_device("h100-sxm"), (1, 4096, 4096), (64, 4096, 4096))
    assert few <= many < 1.01 * few


def test_a_single_row_by_itself():
    """On B200 vLLM's fp8 product of one row takes longer where it is called by itself, as measured; in a model it does not."""
    device = catalog_device("b200-sxm")
    rows = rows_of((1, 4096, 4096), (2, 4096, 4096), dtype="fp8")
    alone, inside = (timing_of(device, rows, stored="fp8", is_alone=flag).fixed_s for flag in (True, False))
    extra = laws_of(device).gemm["fp8"].t_single_row
    assert alone - inside == pytest.approx([extra, 0.0], abs=1e-12)
    assert extra > 0


def test_quantising_takes_a_work_item_a_row():
    """Rows up to one for each SM are quantised at once, each for as long as it is; one more needs a second pass."""
    device = catalog_device("h100-sxm")
    sms, k = device.compute.sm_count, 65_536
    terms = timing_of(device, rows_of((2, 512, k), (sms, 512, k), (sms + 1, 512, k), dtype="fp8"), stored="fp8")
    matrix = laws_of(device).physics.matrix
    best_rate = terms.memory_rate / laws_of(device).gemm["fp8"].memory_factor
    moved = 3 * k / (matrix.l2_speedup * best_rate)
    assert terms.fixed_s[1] - terms.fixed_s[0] == pytest.approx((sms - 2) * moved, rel=1e-6)
    assert terms.fixed_s[2] - terms.fixed_s[1] == pytest.approx(moved + 4 * k / matrix.row_bandwidth, rel=1e-6)


def test_a_device_without_fp8_computes_in_16_bit():
    """On A100 fp8 weights are half the bytes, their activations are not quantised, and the matrix rate is that of bf16."""
    device, shape = catalog_device("a100-sxm-80gb"), (64, 16_384, 512)
    narrow, wide = timing_of(device, rows_of(shape, dtype="fp8"), stored="fp8"), timing_of(device, rows_of(shape))
    assert narrow.fixed_s == wide.fixed_s == laws_of(device).gemm["bf16"].t0
    assert narrow.even_bytes == wide.even_bytes / 2
    huge = (8192, 16_384, 16_384)
    assert seconds_of(device, huge, stored="fp8")[0] == pytest.approx(seconds_of(device, huge)[0], rel=0.1)


def test_l2_speeds_up_a_loop_over_few_weights():
    """A benchmark's six copies of small weights move from L2; those of large ones from memory, as in a model."""
    device, shapes = catalog_device("h100-sxm"), [(8, 512, 1024), (8, 30_000, 30_000)]
    cold, warm = (timing_of(device, rows) for rows in (rows_of(*shapes), rows_of(*shapes, copies=6)))
    assert warm.even_bytes == pytest.approx([0.0, cold.even_bytes[1]], rel=1e-6, abs=1.0)
    assert warm.duration_s(warm.memory_s())[0] < cold.duration_s(cold.memory_s())[0]
    assert cold.l2_s.max() == 0


def test_rows_do_not_depend_on_each_other():
    """Many products in one call give, bit for bit, what each gives alone, also more than fit one pass."""
    device = catalog_device("a100-sxm-80gb")
    shapes = [(1, 4096, 4096), (128, 512, 8192), (4096, 4096, 11_008)]
    alone = [seconds_of(device, shape)[0] for shape in shapes]
    assert seconds_of(device, *shapes).tolist() == alone
    many = seconds_of(device, *(shapes * (MOST_ROWS // 3 + 2)))
    assert many.reshape(-1, 3).tolist() == [alone] * (MOST_ROWS // 3 + 2)
