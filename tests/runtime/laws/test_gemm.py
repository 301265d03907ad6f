"""Matrix products: asymptotes at peak, the closed form term by term, and where L2 helps."""

from __future__ import annotations

from itertools import product
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.laws.gemm import GemmRows, gemm_time
from machines import catalog_device, figures_of

GPUS = ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "rtx-pro-6000-server"]
WIDTH = {"bf16": 2, "fp8": 1}


def rows_of(*shapes, dtype="bf16", copies=None):
    """Return rows (m, n, k)."""
    m, n, k = np.array(shapes, dtype=float).T
    weight_bytes = n * k * WIDTH[dtype]
    return GemmRows(m, n, k, weight_bytes, 2 * m * (n + k), copies and copies * weight_bytes)


def seconds_of(device, *shapes, dtype="bf16"):
    timing = gemm_time(rows_of(*shapes, dtype=dtype), laws_of(device).gemm, figures_of(device), dtype)
    return timing.duration_s(timing.memory_s())


def scalar_gemm_s(device, m, n, k):
    """The law written out for one product of 16-bit weights that are not in L2, in plain floats."""
    law = laws_of(device).gemm["bf16"]
    rate = law.memory_factor * device.memory.efficiency * device.memory.bandwidth
    sms, best = device.compute.sm_count, float("inf")
    memory = 2 * n * k / rate + 2 * m * (n + k) / (law.l2_speedup * rate)
    for tile_m, tile_n, split in product((16, 64, 128), (64, 128, 256), (1, 2, 4, 8, 16)):
        depth = ceil(k / split)
        waves = ceil(ceil(m / tile_m) * ceil(n / tile_n) * split / sms)
        moved = law.t_tile + depth * (2 * tile_n + 2 * min(m, tile_m)) / law.sm_bandwidth
        computed = 2 * tile_m * tile_n * depth / (law.compute_efficiency * device.compute.peak["bf16"] / sms)
        tile = waves * max(moved, computed)
        extra = law.t_split_k + 8 * split * m * n / (law.l2_speedup * rate) if split > 1 else 0.0
        best = min(best, law.t0 + (tile**3 + memory**3) ** (1 / 3) + extra)
    return best


@settings(max_examples=40)
@given(name=st.sampled_from(GPUS), m=st.integers(1, 4096), n=st.integers(64, 30_000), k=st.integers(64, 30_000))
def test_the_law_written_out(name, m, n, k):
    """The vectorised law is the minimum over tiles and splits of the formula, computed one by one."""
    device = catalog_device(name)
    assert seconds_of(device, (m, n, k))[0] == pytest.approx(scalar_gemm_s(device, m, n, k), rel=1e-12)


@pytest.mark.parametrize("name", GPUS)
def test_a_large_product_computes_at_its_efficiency(name):
    """16,384 cubed takes its FLOPs at compute_efficiency of the peak, within the last wave and the smooth maximum: 3 %."""
    device = catalog_device(name)
    law, size = laws_of(device).gemm["bf16"], 16_384
    expected = 2 * size**3 / (law.compute_efficiency * device.compute.peak["bf16"])
    assert expected <= seconds_of(device, (size, size, size))[0] < 1.03 * expected


@pytest.mark.parametrize(("name", "dtype"), [*((name, "bf16") for name in GPUS), *((name, "fp8") for name in GPUS[1:])])
def test_one_row_streams_the_weights(name, dtype):
    """A vector times 2 GB of weights is bound by memory at memory_factor of what long reads achieve."""
    device = catalog_device(name)
    shapes = [(1, 32_768, 32_768), (1, 65_536, 65_536)]
    some, more = seconds_of(device, *shapes, dtype=dtype)
    more_bytes = (65_536**2 - 32_768**2) * WIDTH[dtype]
    rate = laws_of(device).gemm[dtype].memory_factor * device.memory.efficiency * device.memory.bandwidth
    assert 0.75 * rate < more_bytes / (more - some) <= rate


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


def test_l2_speeds_up_a_loop_over_few_weights():
    """A benchmark's six copies of small weights move from L2, at its rate; large ones from memory, as in a model."""
    device, shapes = catalog_device("h100-sxm"), [(8, 512, 1024), (8, 30_000, 30_000)]
    law = laws_of(device).gemm["bf16"]
    rows = rows_of(*shapes, copies=6)
    cold, warm = (gemm_time(r, laws_of(device).gemm, figures_of(device), "bf16") for r in (rows_of(*shapes), rows))
    l2_s = (rows.weight_bytes[0] + rows.activation_bytes[0]) / (law.l2_speedup * warm.memory_rate)
    assert warm.memory_s() == pytest.approx([l2_s, cold.memory_s()[1]], rel=1e-3)
    assert warm.memory_s()[0] < cold.memory_s()[0] / 2


def test_rows_do_not_depend_on_each_other():
    """Many products in one call give, bit for bit, what each gives alone."""
    device = catalog_device("a100-sxm-80gb")
    shapes = [(1, 4096, 4096), (128, 512, 8192), (4096, 4096, 11_008)]
    together = seconds_of(device, *shapes).tolist()
    assert together == [seconds_of(device, shape)[0] for shape in shapes]
