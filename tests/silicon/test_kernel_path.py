"""What validate says a call takes is what the kernel takes in a simulation of one idle GPU."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import polars as pl
import pytest

from gpusim.model.step import BatchShape, StepProgram
from gpusim.model.work import Attention
from gpusim.silicon.attention import ATTENTION
from gpusim.silicon.bench import Bench
from gpusim.silicon.block import BLOCK
from gpusim.silicon.collectives import COLLECTIVES, WORK
from gpusim.silicon.experts import EXPERTS
from gpusim.silicon.gemm import GEMM
from gpusim.silicon.mixed import MIXED
from gpusim.silicon.mla import MLA
from machines import Machine

ROWS = {
    GEMM: {"engine": "vllm", "dtype": "bf16", "m": [1, 16, 300], "n": [4096, 512, 8192], "k": [4096, 1024, 1024]},
    EXPERTS: {
        "engine": "vllm",
        "engine_version": "0.24.0",
        "kernel": "triton",
        "dtype": "bf16",
        "distribution": ["balanced", "power_law_1.2", "power_law_1.01"],
        "tokens": [1, 64, 1000],
        "hidden": [4096, 2048, 2688],
        "inter": [1536, 768, 1856],
        "topk": [8, 8, 6],
        "n_experts": [128, 128, 128],
        "tp": [1, 8, 1],
        "ep": [4, 1, 1],
    },
    ATTENTION: {
        "engine": "vllm",
        "kv_dtype": "bf16",
        "batch": [1, 8, 64],
        "ctx_len": [128, 1000, 4096],
        "n_heads": 32,
        "n_kv_heads": [8, 32, 4],
        "head_dim": 128,
        "window": 0,
    },
    MIXED: {
        "prefill_chunk": [0, 300, 2048],
        "kv_prefill": [0, 4096, 0],
        "n_decode": [8, 0, 16],
        "kv_decode": [1000, 0, 512],
        "n_heads": 32,
        "n_kv_heads": [8, 32, 4],
        "head_dim": 128,
    },
    MLA: {
        "engine": "sglang",
        "kernel": "flash_attention",
        "kv_dtype": "fp8",
        "batch": [1, 8, 64],
        "ctx_len": [128, 1000, 4096],
        "n_heads": [16, 128, 8],
    },
    BLOCK: {
        "model": "llama-3.1-8b",
        "layer": "act_fn",
        "tp": 1,
        "tokens": [1, 16, 300],
        "hidden": 4096,
        "ffn": [14336, 4096, 8192],
        "n_heads": 32,
        "n_kv_heads": 8,
        "head_dim": 128,
    },
}


def single(work):
    """Return work of one row as a step has it: with numbers, attention excepted."""
    if isinstance(work, Attention):
        return work
    numbers = {f.name: getattr(work, f.name) for f in fields(work)}
    return replace(work, **{name: value.item() for name, value in numbers.items() if isinstance(value, np.ndarray)})


@pytest.mark.parametrize("family", ROWS, ids=lambda family: family.kind)
@pytest.mark.parametrize("topology", ["single-gpu", "h100-sxm"])
def test_a_row_takes_what_the_kernel_takes(family, topology):
    """Every row alone, played kernel by kernel on an idle GPU, ends at the tick that the vectorised call says."""
    machine = Machine(topology)
    device = machine.cluster.gpus["gpu0"].spec
    rows = pl.DataFrame({"row": [0, 1, 2], **ROWS[family]})
    bench = Bench(device)
    (calls,) = family.calls(rows, device)
    predicted = bench.seconds(calls)
    for row in range(3):
        (one,) = family.calls(rows[row : row + 1], device)
        program = StepProgram(BatchShape(1, 1), 1, ((1, tuple(map(single, one.works))),))
        begun = machine.clock.now
        result = machine.play(machine.executor(), program)
        assert result.ends[-1] - begun == round(predicted[row] * 1e12)
    assert len(set(predicted.tolist())) == 3


@pytest.mark.parametrize(("topology", "ranks"), [("dgx-h100", 2), ("dgx-h100", 8), ("pcie-8x-rtx-pro-6000", 8)])
@pytest.mark.parametrize("op", ["all_reduce", "all_gather", "reduce_scatter", "alltoall"])
def test_a_collective_takes_what_it_takes_in_a_simulation(topology, ranks, op):
    """Carried out by the same ranks on idle links of the same machine, it ends at the tick that the vectorised call says."""
    machine = Machine(topology)
    device = machine.cluster.gpus["gpu0"].spec
    sizes = [1024, 2**20, 2**26]
    rows = pl.DataFrame(
        {"row": [0, 1, 2], "impl": "vllm_custom", "mode": "graph", "op": op, "n_gpus": ranks, "bytes": sizes}
    )
    (calls,) = COLLECTIVES.calls(rows, device)
    predicted = Bench(device).seconds(calls)
    group = machine.group(*(f"gpu{rank}" for rank in range(ranks)))
    for size, seconds in zip(sizes, predicted, strict=True):
        begun = machine.clock.now
        noted = machine.perform(group, group.timed(WORK[op](op, float(size))))
        machine.clock.run()
        assert noted["end"] - begun == round(seconds * 1e12)
