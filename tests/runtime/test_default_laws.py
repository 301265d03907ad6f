"""Laws of devices nobody measured: who lends them, what is scaled, what is not."""

from __future__ import annotations

import pytest

from gpusim.runtime.default_laws import carried_over, donor_name, laws_of
from gpusim.spec.device import AggregateMemorySpec
from machines import catalog_device

A100 = catalog_device("a100-sxm-80gb")
L40S = catalog_device("l40s")
MEASURED = ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "rtx-pro-6000-server"]


def unmeasured(*, standard="HBM3", family="ampere", aggregate=False):
    """Return a device without laws."""
    memory = A100.memory.model_copy(update={"standard": standard})
    if aggregate:
        memory = AggregateMemorySpec(kind="aggregate", capacity=1e9, bandwidth=1e12)
    return A100.model_copy(update={"name": "new", "family": family, "memory": memory, "laws": None})


@pytest.mark.parametrize("name", MEASURED)
def test_measured_devices_have_their_own(name):
    """Nothing is carried over to a device with laws."""
    device = catalog_device(name)
    assert laws_of(device) == device.laws.of("vllm")


@pytest.mark.parametrize(
    ("standard", "family", "donor"),
    [
        ("GDDR6", "ampere", "rtx-pro-6000-server"),
        ("GDDR6X", "ada", "rtx-pro-6000-server"),
        ("GDDR7", "hopper", "rtx-pro-6000-server"),
        ("HBM3e", "hopper", "h100-sxm"),
        ("HBM3e", "blackwell", "b200-sxm"),
        ("HBM2", "volta", "a100-sxm-80gb"),
        ("HBM2e", "ampere", "a100-sxm-80gb"),
        ("HBM3", "cdna3", "h100-sxm"),
        ("HBM3e", "cdna4", "b200-sxm"),
        ("HBM2e", "cdna2", "a100-sxm-80gb"),
        ("HBM2e", "gaudi", "a100-sxm-80gb"),
    ],
)
def test_memory_decides_before_family(standard, family, donor):
    """Any GDDR has one donor; among HBM the family decides."""
    assert donor_name(unmeasured(standard=standard, family=family)) == donor


def test_aggregate_memory_counts_as_hbm():
    """Where the structure is unknown the family decides."""
    assert donor_name(unmeasured(family="blackwell", aggregate=True)) == "b200-sxm"
    assert donor_name(unmeasured(family="", aggregate=True)) == "a100-sxm-80gb"


@pytest.mark.parametrize(
    ("name", "donor"),
    [("l40s", "rtx-pro-6000-server"), ("rtx-4090", "rtx-pro-6000-server"), ("v100-sxm-32gb", "a100-sxm-80gb")],
)
def test_donors_in_the_catalog(name, donor):
    """The unmeasured devices of the catalog get the donors the documentation names, and say so."""
    device = catalog_device(name)
    assert donor_name(device) == donor
    assert donor in laws_of(device).fitted_on
    assert name in laws_of(device).fitted_on


def test_only_what_an_sm_takes_in_scales_with_the_clock():
    """cta_bandwidth and sm_bandwidth by the ratio of boost clocks; all else, nothing but fitted_on, is the donor's."""
    donor = catalog_device("rtx-pro-6000-server")
    ratio = L40S.compute.boost_clock / donor.compute.boost_clock
    laws, donors = carried_over(donor, L40S).of("vllm"), donor.laws.of("vllm")
    for ours, theirs, scaled in (
        (laws.attention, donors.attention, "cta_bandwidth"),
        (laws.gemm, donors.gemm, "sm_bandwidth"),
        (laws.mla, donors.mla, "cta_bandwidth"),
    ):
        assert ours.keys() == theirs.keys()
        for dtype in ours:
            rate = getattr(theirs[dtype], scaled)
            assert getattr(ours[dtype], scaled) == pytest.approx(ratio * rate, rel=1e-12)
            assert ours[dtype].model_copy(update={scaled: rate}) == theirs[dtype]
    assert laws.physics.sm_bandwidth == pytest.approx(ratio * donors.physics.sm_bandwidth, rel=1e-12)
    same = {name: getattr(donors, name) for name in ("attention", "gemm", "mla", "moe", "physics", "fitted_on")}
    assert laws.model_copy(update=same) == donors
    assert ratio != 1


def test_a_twin_of_the_donor_gets_its_laws():
    """Carried over to a device of the same clock the parameters are unchanged."""
    laws, own = laws_of(unmeasured()), A100.laws.of("vllm")
    assert laws.model_copy(update={"fitted_on": A100.laws.fitted_on, "moe": own.moe}) == own
    assert laws.moe["bf16"]["triton"] == own.moe["bf16"]["triton"]


def test_kernels_of_experts_come_from_whoever_has_them():
    """The donor's first, and of libraries that it does not use those of others; before Hopper vLLM has Triton's alone."""
    ada, blackwell = laws_of(L40S).moe, laws_of(catalog_device("b300-sxm")).moe
    measured = {name: catalog_device(name).laws.of("vllm").moe for name in MEASURED}
    assert ada["bf16"]["cutlass"] == measured["rtx-pro-6000-server"]["bf16"]["cutlass"]
    assert ada["bf16"]["triton"] == measured["h100-sxm"]["bf16"]["triton"]
    assert [next(iter(laws["bf16"])) for laws in (ada, blackwell)] == ["triton", "trtllm"]
    assert blackwell["bf16"]["triton"] == measured["h100-sxm"]["bf16"]["triton"]
    alone = laws_of(unmeasured(family="hopper").model_copy(update={"name": "h100-sxm"})).moe
    assert alone["bf16"]["triton"] == measured["a100-sxm-80gb"]["bf16"]["triton"]


def test_an_engine_borrows_what_it_was_not_measured_for():
    """Own families first, then those of the other engines in the order of the file; an unknown engine has the first's."""
    laws = catalog_device("b200-sxm").laws
    vllm, sglang, unknown = (laws.of(name) for name in ("vllm", "sglang", "somebody"))
    assert vllm.gemm == laws.engines["vllm"].gemm == sglang.gemm
    assert vllm.mla == laws.engines["sglang"].mla == sglang.mla
    assert unknown == vllm
