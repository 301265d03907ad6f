"""Small folders of measurements that tests make up."""

from __future__ import annotations

from itertools import product

import polars as pl


def gemm_rows(gpu="h100_sxm", engine="vllm", dtype="bf16"):
    """Return products of usual shapes, without times."""
    shapes = product((1, 16, 128, 2048), (512, 2048, 4096, 8192), (1024, 4096, 8192))
    rows = [{"id": f"gemm-{gpu}-{m}-{n}-{k}", "gpu": gpu, "m": m, "n": n, "k": k} for m, n, k in shapes]
    return pl.DataFrame(rows).with_columns(engine=pl.lit(engine), dtype=pl.lit(dtype))


def attention_rows(gpu="h100_sxm", engine="vllm", dtype="bf16"):
    """Return decode batches of usual shapes, without times."""
    shapes = product((1, 8, 64), (64, 1024, 8192), ((32, 8), (8, 1), (16, 16)))
    rows = [
        {"id": f"attn-{gpu}-{b}-{c}-{h}", "gpu": gpu, "batch": b, "ctx_len": c, "n_heads": h, "n_kv_heads": k}
        for b, c, (h, k) in shapes
    ]
    return pl.DataFrame(rows).with_columns(
        engine=pl.lit(engine), kv_dtype=pl.lit(dtype), head_dim=pl.lit(128), window=pl.lit(0)
    )


def write_folder(folder, **tables):
    """Write tables, by the name of their file, and return the folder."""
    folder.mkdir(exist_ok=True)
    for name, table in tables.items():
        table.write_csv(folder / f"{name}.csv")
    return folder
