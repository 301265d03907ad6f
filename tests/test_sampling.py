"""What sampling costs a step, at both levels of detail, and whose sampling it is."""

from __future__ import annotations

import numpy as np
import pytest

from builders import build_lowering, build_plan, build_simulation, token_ticks
from gpusim.model.step import BatchShape
from gpusim.model.work import Elementwise, Sort
from gpusim.plan import plan_scenario
from gpusim.spec.sampling import SamplingSpec

TOP_P = {"top_p": 0.9}
PENALISED = {"top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
WIDE = {
    "extends": "tiny",
    "name": "wide",
    "vocab_size": 100_000,
    "embedding_norm": True,
    "position_embeddings": 2048,
    "lm_head_bias": True,
    "generation": PENALISED,
    "layers": [
        {
            "count": 2,
            "attention": {"num_heads": 8, "num_kv_heads": 4, "head_dim": 32, "qk_norm": True, "rope": False},
            "mlp": {"kind": "plain", "intermediate_size": 512, "bias": True},
        }
    ],
}
"""The tiny model with all that other families have, and a vocabulary that sorting feels."""


def kernels_after(sampling, num_sampled=4):
    lowering = build_lowering(sampling=SamplingSpec(**sampling))
    return {kernel.name: kernel for _, kernel in lowering.sampling_kernels(num_sampled)}


@pytest.mark.parametrize(
    ("sampling", "sorts", "penalises"),
    [
        ({}, False, False),
        ({"top_p": 1.0, "top_k": -1, "temperature": 0.6}, False, False),
        (TOP_P, True, False),
        ({"top_k": 20}, True, False),
        ({"top_p": 0.9, "temperature": 0.0}, False, False),
        ({"temperature": 0.0, "repetition_penalty": 1.1}, False, True),
        (PENALISED, True, True),
    ],
)
def test_logits_are_sorted_where_candidates_are_sought(sampling, sorts, penalises):
    """Top-p and top-k sort, unless the likeliest token is taken anyway; a penalty counts tokens, whatever is drawn."""
    assert ("sort_logits" in kernels_after(sampling), "penalties" in kernels_after(sampling)) == (sorts, penalises)


def test_the_work_is_sequences_times_vocabulary():
    """Each sampled sequence sorts all its logits, 1,000 in the small model, and each rank all of them."""
    for tp in (1, 4):
        lowering = build_lowering(tp=tp, sampling=SamplingSpec(**PENALISED))
        kernels = {kernel.name: kernel for _, kernel in lowering.sampling_kernels(np.array([1, 64]))}
        assert isinstance(kernels["sort_logits"], Sort)
        assert isinstance(kernels["penalties"], Elementwise)
        assert kernels["sort_logits"].elements.tolist() == [1_000, 64_000]
        moved = kernels["penalties"].bytes_read + kernels["penalties"].bytes_written
        assert moved.tolist() == [85_000, 85 * 64_000]


def test_a_step_that_samples_nothing_sorts_nothing():
    """A step of unfinished prefill chunks draws no token."""
    program = build_lowering(sampling=SamplingSpec(**TOP_P)).lower(BatchShape(0, 0, ((64, 64),), 0))
    assert "sort_logits" not in {kernel.name for _, part in program.parts for kernel in part}


def itl_s(**changes):
    """Return the last gap between steps of a batch of 8 that decodes together."""
    workload = {"workload__arrivals": {"kind": "at_once"}, "workload__num_requests": 8}
    simulation = build_simulation(topology="one-h100.yaml", detail="step", **workload, **changes)
    simulation.run()
    ends = simulation.logs["engine"].ends
    return np.diff(ends)[-1] / 1e12


def test_a_token_waits_for_the_sort(monkeypatch, tmp_path):
    """Every step of 8 decodes grows by one launch and 0.155 ns per sequence and vocabulary entry on an H100."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one-h100.yaml").write_text(
        "{schema: 1, name: one, nodes: [{kind: gpu, name: gpu0, device: h100-sxm}]}", encoding="utf-8"
    )
    plain, sorted_ = (
        itl_s(model={**WIDE, "generation": sampling}, serving__max_num_batched_tokens=400) for sampling in ({}, TOP_P)
    )
    assert sorted_ - plain == pytest.approx(0.9003e-6 + 8 * 100_000 * 0.155e-9, rel=1e-3)


@pytest.mark.parametrize("tp", [1, 4])
@pytest.mark.parametrize("arrivals", [{"kind": "at_once"}, {"kind": "poisson", "rate": "3000 /s"}])
def test_both_details_sample_alike(tp, arrivals):
    """Tokens of a model with everything fall on the same ticks at step and at kernel detail, split or not."""
    topology = "dgx-a100-80gb" if tp > 1 else "single-gpu"
    stated = {"model": WIDE, "topology": topology, "serving__tensor_parallel_size": tp, "workload__arrivals": arrivals}
    found = []
    for detail in ("step", "kernel"):
        simulation = build_simulation(detail=detail, **stated)
        simulation.run()
        found.append(token_ticks(simulation))
    assert found[0] == found[1]


def test_sampling_defaults_to_the_models_own():
    """The resolved scenario says what was taken: the model's published defaults, or all of what the user states."""
    own = build_plan(model="qwen2.5-0.5b").scenario.serving.sampling
    assert own == SamplingSpec(temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.1)
    stated = build_plan(model="qwen2.5-0.5b", serving__sampling={"top_p": 1.0}).scenario.serving.sampling
    assert stated == SamplingSpec()


def test_a_resolved_scenario_resolves_to_itself():
    """Planning what planning made changes nothing, for one engine and for several of different models."""
    engines = [{"name": "a", "gpus": ["gpu0"], "model": "tiny"}, {"name": "b", "gpus": ["gpu1"], "model": WIDE}]
    for changes in ({"model": WIDE}, {"engines": engines, "topology": "dgx-a100-80gb"}):
        scenario = build_plan(**changes).scenario
        assert plan_scenario(scenario).scenario == scenario
    samplings = [engine.serving.sampling for engine in scenario.engines]
    assert samplings == [SamplingSpec(), SamplingSpec(**PENALISED)]
