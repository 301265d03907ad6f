"""Layers of experts: how the benchmark dealt tokens, and how well its rows are predicted."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusim.silicon.dealing import Deal, dealt
from gpusim.silicon.experts import EXPERTS
from gpusim.silicon.layout import Measurements, read_folder
from gpusim.silicon.predictions import predict
from gpusim.silicon.scores import scored
from helpers import shared_data

DISTRIBUTIONS = st.sampled_from(["balanced", "power_law_1.01", "power_law_1.2"])


@given(
    tokens=st.integers(1, 600),
    size=st.sampled_from([(8, 2), (16, 1), (64, 6), (128, 8)]),
    ranks=st.sampled_from([1, 2, 8]),
    distribution=DISTRIBUTIONS,
    is_early=st.booleans(),
)
def test_all_choices_are_dealt_out(tokens, size, ranks, distribution, is_early):
    """And the measured rank has at least its share of them, of as many experts as it can have."""
    load = dealt(Deal(tokens, *size, ranks, distribution, is_early))
    experts, chosen = size
    assert load.rows + load.other_rows == pytest.approx(tokens * chosen, rel=1e-12)
    assert load.rows * ranks >= tokens * chosen * (1 - 1e-12) or distribution == "balanced"
    assert load.experts <= load.touched <= experts / ranks
    assert load.experts <= load.rows


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("dtype", "nvfp4", "stored in a type that is not known"),
        ("distribution", "zipf", "routed in a way that is not known"),
        ("ep", 3, "experts cannot be dealt so"),
        ("topk", 200, "experts cannot be dealt so"),
        ("tokens", 0, "sizes are no whole numbers of at least 1"),
        ("tokens", 1 << 30, "more than 1048576 tokens"),
    ],
)
def test_rows_without_a_prediction_say_why(column, value, reason):
    """And the others of the table have theirs."""
    good = {"tokens": 8, "hidden": 4096, "inter": 1536, "topk": 8, "n_experts": 128, "tp": 1, "ep": 4}
    good |= {"engine": "vllm", "engine_version": "0.24.0", "kernel": "a_triton", "dtype": "bf16", "gpu": "h100_sxm"}
    rows = [{"id": str(number), "distribution": "balanced", **good} for number in range(2)]
    rows[1][column] = value
    found = predict(Measurements(EXPERTS, Path("moe.csv"), pl.DataFrame(rows).with_row_index("row")))
    assert found["reason"].to_list() == [None, reason]
    assert found["predicted_us"].is_null().to_list() == [False, True]


def test_balanced_tokens_take_turns():
    """16 tokens that choose 8 of 128 touch all of them once; one token touches 8, of which a rank of 8 has one."""
    every = dealt(Deal(16, 128, 8, 1, "balanced", is_early=False))
    assert (every.experts, every.rows) == (128, 128)
    one = dealt(Deal(1, 128, 8, 8, "balanced", is_early=False))
    assert (one.experts, one.other_experts) == (1, 7)


def test_the_first_form_heaped_few_tokens_on_one_rank():
    """One token's 8 experts lie on one rank of 16, where today's form spreads them."""
    early, today = (dealt(Deal(1, 256, 8, 16, "power_law_1.01", is_early)) for is_early in (True, False))
    assert early.experts == 8
    assert today.experts < 4


@pytest.mark.parametrize(
    ("gpu", "dtype", "limit"),
    [
        ("a100_sxm", "bf16", 0.122),
        ("h100_sxm", "bf16", 0.074),
        ("h100_sxm", "fp8", 0.096),
        ("h100_sxm", "fp8_block", 0.069),
        ("b200_sxm", "bf16", 0.082),
        ("b200_sxm", "fp8", 0.080),
        ("b200_sxm", "fp8_block", 0.099),
        ("rtx_pro_6000_server", "bf16", 0.075),
        ("rtx_pro_6000_server", "fp8", 0.080),
    ],
)
def test_measured_layers(gpu, dtype, limit):
    """17 shapes of vLLM's fused layers, splits over up to 256 ranks, 1 to 1,024 tokens, by the libraries it chose."""
    folder = shared_data("silicon/moe.csv.gz").parent
    (measured,) = (m for m in read_folder(folder) if m.family is EXPERTS)
    chosen = measured.table.filter(pl.col("gpu") == gpu, pl.col("dtype") == dtype)
    errors = scored(predict(type(measured)(measured.family, measured.path, chosen)))["error"]
    assert len(errors) == len(chosen) > 1500
    assert errors.abs().mean() < limit
