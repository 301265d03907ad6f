"""Every device of the catalog simulates: one GPU by its name, against what its memory can deliver."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import build_plan
from gpusim.machine import gpu_devices, read_topology
from gpusim.model.footprint import weight_bytes
from gpusim.model.layout import Layout
from gpusim.runtime.bounds import streaming_step_s
from gpusim.simulation import Simulation
from gpusim.spec.names import names


def decode(device, efficiency):
    """Simulate one request of a few tokens on one GPU; return the plan and the mean gap between tokens."""
    plan = build_plan(
        topology=device,
        efficiency=efficiency,
        detail="step",
        workload__num_requests=1,
        workload__output_tokens={"kind": "fixed", "value": 9},
    )
    return plan.engines[0], Simulation(plan).run().itl.mean


@pytest.mark.parametrize("device", names("device"))
def test_a_decode_step_is_bound_by_memory(device):
    """An ideal step takes at least its bytes at peak, a calibrated one at least as long, and neither a millisecond."""
    placed, ideal_s = decode(device, "ideal")
    calibrated_s = decode(device, "calibrated")[1]
    bandwidth = placed.device.memory.bandwidth
    # A step reads one row of the embedding, not all of it.
    embedding = placed.model.vocab_size * placed.model.hidden_size * 2
    weights_s = (weight_bytes(placed.model, "bf16") - embedding) / bandwidth
    bound_s = streaming_step_s(
        placed.model, "bf16", "bf16", context_tokens=49, weight_bandwidth=bandwidth, kv_bandwidth=bandwidth
    )
    assert weights_s <= ideal_s < 2 * bound_s
    assert ideal_s < calibrated_s < 1e-3


@pytest.mark.parametrize("device", names("device"))
def test_laws_of_every_device_are_sensible(device):
    """One sequence of Llama-3.1-8B in fp8 takes 1 to 3 times its weights at peak bandwidth, whoever lent the laws."""
    plan = build_plan(
        topology=device,
        model="llama-3.1-8b",
        dtype__weights="fp8",
        detail="step",
        workload__num_requests=1,
        workload__output_tokens={"kind": "fixed", "value": 9},
    )
    (placed,) = plan.engines
    weights_s = weight_bytes(placed.model, "fp8") / placed.device.memory.bandwidth
    assert 1 < Simulation(plan).run().itl.mean / weights_s < 3


@pytest.mark.parametrize("topology", [name for name in names("topology") if not name.startswith("thread")])
def test_every_machine_serves_a_model_split_over_its_gpus(topology):
    """Up to 8 GPUs share a model: tokens come, and no sooner than one rank can read its part of the weights."""
    num_gpus = min(8, len(gpu_devices(read_topology(topology, Path()))))
    plan = build_plan(
        topology=topology,
        detail="step",
        serving__tensor_parallel_size=num_gpus,
        workload__num_requests=1,
        workload__output_tokens={"kind": "fixed", "value": 9},
    )
    (placed,) = plan.engines
    own = weight_bytes(placed.model, "bf16", Layout(num_gpus)) - placed.model.vocab_size * placed.model.hidden_size * 2
    assert own / placed.device.memory.bandwidth < Simulation(plan).run().itl.mean < 5e-3
