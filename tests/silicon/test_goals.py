"""The errors that docs/accuracy.md states, by kind and GPU: on shapes kept out of the fits, and with each GPU left out.

Each limit is a little above what is reached, so that what makes a law worse is noticed.
"""

from __future__ import annotations

from functools import cache

import accuracy
import polars as pl
import pytest

from gpusim.silicon.layout import read_folder
from gpusim.silicon.scores import scores
from helpers import shared_data

KEPT_OUT = {
    ("attn", "a100_sxm"): 0.071,  # 0.068
    ("attn", "h100_sxm"): 0.058,  # 0.055
    ("attn", "b200_sxm"): 0.061,  # 0.058
    ("attn", "rtx_pro_6000_server"): 0.048,  # 0.045
    ("gemm", "a100_sxm"): 0.070,  # 0.068
    ("gemm", "h100_sxm"): 0.053,  # 0.050
    ("gemm", "b200_sxm"): 0.072,  # 0.069
    ("gemm", "rtx_pro_6000_server"): 0.075,  # 0.072
    ("vgemm", "a100_sxm"): 0.056,  # 0.053
    ("vgemm", "h100_sxm"): 0.052,  # 0.049
    ("coll", "a100_sxm"): 0.068,  # 0.064
    ("coll", "h100_sxm"): 0.052,  # 0.048
    ("coll", "b200_sxm"): 0.049,  # 0.045
    ("coll", "rtx_pro_6000_server"): 0.052,  # 0.048
    ("moe", "a100_sxm"): 0.129,  # 0.123
    ("moe", "h100_sxm"): 0.085,  # 0.081
    ("moe", "b200_sxm"): 0.088,  # 0.084
    ("moe", "rtx_pro_6000_server"): 0.076,  # 0.072
    ("mla", "a100_sxm"): 0.124,  # 0.118
    ("mla", "h100_sxm"): 0.052,  # 0.049
    ("mla", "b200_sxm"): 0.085,  # 0.081
}
LEFT_OUT = {
    ("attn", "a100_sxm"): 0.100,  # 0.095
    ("attn", "h100_sxm"): 0.133,  # 0.128, a little above the goal of 0.12
    ("attn", "b200_sxm"): 0.117,  # 0.112
    ("attn", "rtx_pro_6000_server"): 0.172,  # 0.166
    ("gemm", "a100_sxm"): 0.158,  # 0.152
    ("gemm", "h100_sxm"): 0.104,  # 0.099
    ("gemm", "b200_sxm"): 0.127,  # 0.123, a little above the goal of 0.12
    ("gemm", "rtx_pro_6000_server"): 0.178,  # 0.172
    ("coll", "a100_sxm"): 0.150,  # 0.147
    ("coll", "h100_sxm"): 0.133,  # 0.128
    ("coll", "b200_sxm"): 0.114,  # 0.109
    ("coll", "rtx_pro_6000_server"): 0.223,  # 0.215
}


@cache
def errors(*, left_out):
    """Return the mean error of core rows by kind and GPU: of those kept out of the fits, or of all with each GPU left out."""
    kinds = {kind for kind, _ in (LEFT_OUT if left_out else KEPT_OUT)}
    folder = [table for table in read_folder(shared_data("silicon")) if table.family.kind in kinds]
    rows = accuracy.predicted(folder, left_out=left_out)
    table = scores(rows if left_out else rows.filter(pl.col("kept_out")), "kind", "gpu")
    return {(kind, gpu): error for kind, gpu, error in table.select("kind", "gpu", "core_mape").iter_rows()}


@pytest.mark.parametrize(("kind", "gpu"), KEPT_OUT)
def test_shapes_kept_out(kind, gpu):
    """Rows of shapes that no fit has read."""
    assert errors(left_out=False)[kind, gpu] < KEPT_OUT[kind, gpu]


@pytest.mark.parametrize(("kind", "gpu"), LEFT_OUT)
def test_gpus_left_out(kind, gpu):
    """A GPU predicted from its data sheet and the other three."""
    assert errors(left_out=True)[kind, gpu] < LEFT_OUT[kind, gpu]
