"""The arithmetic of the thread that started it: Llama-7B at 64K tokens of context, a KV head each or one for all.

Figures: 524,288 B of KV a token; 16 sequences of 65,536 tokens hold 549.8 GB; with 13.48 GB of weights, all at 1.6 TB/s,
a token takes 352.0 ms. With one KV head the cache is 32 times smaller and lies in the GPU's own memory of 1.5 TB/s:
20.44 ms with the weights left as they are. Reference: Aman Sanger's thread on multi-query attention, 2023.
"""

import pytest

from gpusim.plan import open_scenario
from gpusim.runtime.bounds import streaming_step_s
from gpusim.sweeps import sweep
from gpusim.units import GB, TB, ms

CONTEXT = 65_536
PEAK_FLOPS = 312e12
"""Of the GPU, bf16."""


@pytest.fixture(scope="module")
def study():
    """The ideal points of the example, by batch and attention."""
    grid = open_scenario("mha-vs-mqa").data["sweep"] | {"efficiency": ["ideal"]}
    rows = sweep("mha-vs-mqa", grid)
    return {(row.point.labels["workload.num_requests"], row.point.labels["attention"]): row for row in rows}


def itl_s(study, batch, attention):
    return study[batch, attention].result.itl.mean


def ratio(study, batch, attention):
    return itl_s(study, batch, "mha") / itl_s(study, batch, attention)


def kv_ratio(study, batch, attention):
    """How much less time reading KV takes than with a head each."""
    mha, other = (study[batch, name].result.explain()["seconds"]["kv"] for name in ("mha", attention))
    return mha / other


def matrix_s(study, batch):
    """Seconds that the weight matrices' FLOPs of *batch* tokens take at peak; of the model with all its heads."""
    facts = study[batch, "mha"].result.summary()["engines"]["engine"]
    embedding_bytes = 32_000 * 4096 * 2
    return batch * (facts["weight_bytes_per_gpu"] - embedding_bytes) / PEAK_FLOPS


def test_kv_of_a_token_and_of_the_batch(study):
    """32 layers keep a key and a value of 4096 numbers of 2 B: 524,288 B a token, 549.8 GB in all; 32 times less for MQA."""
    facts = {name: study[16, name].result.summary()["engines"]["engine"] for name in ("mha", "mqa")}
    assert facts["mha"]["kv_bytes_per_token"] == 524_288
    assert facts["mha"]["kv_bytes_per_token"] * 16 * CONTEXT == pytest.approx(549.8 * GB, rel=1e-4)
    assert facts["mha"]["weight_bytes_per_gpu"] == pytest.approx(13.48 * GB, rel=1e-3)
    assert facts["mqa"]["kv_bytes_per_token"] == 524_288 / 32


def test_a_token_with_a_head_each(study):
    """Within 1 % of 352.0 ms: all bytes at 1.6 TB/s. Ours reads the weights beside it, at 1.5 TB/s."""
    assert itl_s(study, 16, "mha") == pytest.approx(352.0 * ms, rel=0.01)


def test_a_token_with_one_head_for_all(study):
    """Within 1 % of 20.44 ms with the weights left as they are, and of the ratio of 17.2."""
    assert itl_s(study, 16, "mqa, same weights") == pytest.approx(20.44 * ms, rel=0.01)
    assert ratio(study, 16, "mqa, same weights") == pytest.approx(17.2, rel=0.01)


def test_a_real_model_with_one_head_has_smaller_projections(study):
    """Its own projections shrink too: about 19 ms, less by what 2.08 GB fewer weights take at 1.5 TB/s."""
    own, same = itl_s(study, 16, "mqa"), itl_s(study, 16, "mqa, same weights")
    assert own == pytest.approx(19.0 * ms, rel=0.01)
    fewer_bytes = 32 * 2 * 4096 * (4096 - 128) * 2
    assert same - own == pytest.approx(fewer_bytes / (1.5 * TB), rel=0.01)


@pytest.mark.parametrize(("attention", "limit"), [("mqa, same weights", 30.0), ("mqa, pooled", 32.0)])
def test_the_ratio_grows_with_the_batch(study, attention, limit):
    """The larger the batch, the less the weights count; it never reaches what the cache alone gives."""
    ratios = [ratio(study, batch, attention) for batch in (1, 16, 1024)]
    assert ratios == sorted(ratios)
    assert ratios[-1] < limit
    assert kv_ratio(study, 1024, attention) == pytest.approx(limit, rel=0.002)


@pytest.mark.parametrize(
    ("attention", "kv_bandwidth", "limit"), [("mqa, same weights", 1.5 * TB, 30.0), ("mqa, pooled", 1.6 * TB, 32.0)]
)
def test_what_keeps_the_ratio_below_its_limit(study, attention, kv_bandwidth, limit):
    """At batch 1024 bytes alone give 29.7 and 31.6; the FLOPs of the matrices, the same for both, take off the rest."""
    kv_bytes = 1024.0 * CONTEXT * 524_288
    matrices_s = matrix_s(study, 1024)
    expected = (kv_bytes / (1.6 * TB) + matrices_s) / (kv_bytes / 32 / kv_bandwidth + matrices_s)
    assert ratio(study, 1024, attention) == pytest.approx(expected, rel=0.01)
    assert limit - 2.1 < ratio(study, 1024, attention) < limit


@pytest.mark.parametrize(("kv_bandwidth", "limit"), [(1.5 * TB, 30.0), (1.6 * TB, 32.0)])
def test_bytes_alone_tend_to_thirty_and_thirty_two(study, kv_bandwidth, limit):
    """By bytes alone the ratio is within [limit - 1.5, limit] at batch 1024 and reaches it with more."""
    plans = {name: study[16, name].plan.engines[0] for name in ("mha", "mqa, same weights")}

    def crude(name, batch, bandwidth):
        sizes = {"context_tokens": batch * CONTEXT, "weight_bandwidth": 1.5 * TB, "kv_bandwidth": bandwidth}
        return streaming_step_s(plans[name].model, "bf16", "bf16", **sizes)

    ratios = [
        crude("mha", batch, 1.6 * TB) / crude("mqa, same weights", batch, kv_bandwidth) for batch in (16, 1024, 10**6)
    ]
    assert ratios == sorted(ratios)
    assert limit - 1.5 < ratios[1] < limit
    assert ratios[2] == pytest.approx(limit, rel=1e-3)
