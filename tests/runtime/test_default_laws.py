"""Laws of devices nobody measured: who lends them, what is scaled, what is not."""

from __future__ import annotations

import pytest

from gpusim.runtime.default_laws import carried_over, device_laws_of, donor_name, laws_of, lent_efficiency
from gpusim.runtime.default_laws import unmeasured as unmeasured_device
from gpusim.spec.device import AggregateMemorySpec
from gpusim.spec.names import names
from gpusim.units import MiB
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


def test_only_what_an_sm_does_scales_with_the_clock():
    """Rates of SMs go with the ratio of boost clocks, launches of attention against it, and element-wise kernels."""
    donor = catalog_device("rtx-pro-6000-server")
    ratio = L40S.compute.boost_clock / donor.compute.boost_clock
    laws, donors = carried_over(donor, L40S).of("vllm"), donor.laws.of("vllm")
    for ours, theirs, scaled in (
        (laws.attention, donors.attention, {"t0": -1, "t_copy": -1, "t_split": -1, "t_per_split": -1}),
        (laws.mla, donors.mla, {"cta_bandwidth": 1}),
    ):
        assert ours.keys() == theirs.keys()
        for dtype in ours:
            values = {name: getattr(theirs[dtype], name) for name in scaled}
            for name, power in scaled.items():
                assert getattr(ours[dtype], name) == pytest.approx(ratio**power * values[name], rel=1e-12)
            if ours is laws.mla:
                values["reduce_bandwidth"] = theirs[dtype].reduce_bandwidth
                assert ours[dtype].reduce_bandwidth == pytest.approx(ratio * values["reduce_bandwidth"], rel=1e-12)
            if ours is laws.attention and dtype == "fp8":
                values["sm_bandwidth"] = None  # of other GPUs, see below
            assert ours[dtype].model_copy(update=values) == theirs[dtype]
    ours, theirs = laws.elementwise, donors.elementwise
    assert ours.t0 * ratio == pytest.approx(theirs.t0, rel=1e-12)
    assert ours.t_step * ratio**0.5 == pytest.approx(theirs.t_step, rel=1e-12)
    assert ours.issue_efficiency == catalog_device("h100-sxm").laws.elementwise.issue_efficiency
    assert (ours.l2_speedup, ours.l2_fraction) == (theirs.l2_speedup, theirs.l2_fraction)
    names = ("attention", "gemm", "mla", "moe", "elementwise", "physics", "fitted_on")
    same = {name: getattr(donors, name) for name in names}
    nccl = donors.nccl.model_copy(update={"tuning": "ampere"})
    assert laws.model_copy(update=same) == donors.model_copy(update={"nccl": nccl})
    assert ratio != 1


@pytest.mark.parametrize("name", ["h200-sxm", "b300-sxm", "l40s"])
def test_collectives_of_a_measured_generation_are_its_machine_s(name):
    """GDDR has the measured PCIe box's, unchanged but for the column of NCCL's table."""
    device = catalog_device(name)
    donor = catalog_device(donor_name(device))
    nccl = laws_of(device).nccl
    assert nccl.model_copy(update={"tuning": donor.laws.nccl.tuning}) == donor.laws.nccl
    assert nccl.tuning == {"l40s": "ampere"}.get(name, donor.laws.nccl.tuning)
    assert laws_of(device).engine_all_reduce == donor.laws.of("vllm").engine_all_reduce


def test_collectives_of_another_generation_are_the_mean():
    """A V100's times are those of three machines at its clock, the geometric mean, B200's without what its two dies add."""
    device = catalog_device("v100-sxm-32gb")
    law = laws_of(device).nccl
    others = [catalog_device(name) for name in MEASURED[:3]]
    cycles = [other.laws.nccl.ring.t0 * other.compute.boost_clock for other in others]
    mean = (cycles[0] * cycles[1] * cycles[2] / 1.5) ** (1 / 3)
    assert law.ring.t0 == pytest.approx(mean / device.compute.boost_clock, rel=1e-9)
    shares = [other.laws.nccl.ring.copy_share for other in others]
    assert law.ring.copy_share == pytest.approx((shares[0] * shares[1] * shares[2]) ** (1 / 3), rel=1e-9)
    assert law.tuning == "volta"


def test_what_needs_adding_switches_is_not_lent_to_those_without():
    """Before Hopper there is no multicast, and vLLM's own kernel goes up to 8 MiB."""
    a100 = unmeasured_device(A100)
    law = laws_of(a100).engine_all_reduce
    assert law.symmetric is None
    assert law.max_bytes[8] == 8 * MiB


def test_l2_is_as_fast_for_each_sm_and_cycle():
    """More memory bandwidth on the same SMs makes L2 less of an advantage, down to none."""
    hopper, h200 = catalog_device("h100-sxm"), catalog_device("h200-sxm")
    ours, theirs = (device.memory.bandwidth / device.compute.boost_clock for device in (h200, hopper))
    speedup = laws_of(h200).physics.l2_speedup
    assert speedup == pytest.approx(max(1.0, hopper.laws.physics.l2_speedup * theirs / ours))


@pytest.mark.parametrize(
    ("name", "engine", "kernel"),
    [
        ("h200-sxm", "vllm", "flash_attention_3"),
        ("gb200", "sglang", "trtllm_gen"),
        ("l40s", "vllm", "flash_attention_2"),
        ("l40s", "trtllm", "xqa"),
        ("a30", "sglang", "flash_attention_3_ampere"),
    ],
)
def test_engines_run_the_kernels_of_a_generation(name, engine, kernel):
    """Which kernel an engine runs is known of GPUs that nobody measured."""
    assert laws_of(catalog_device(name), engine).attention["bf16"].kernel == kernel


@pytest.mark.parametrize("name", ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "rtx-pro-6000-server"])
@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_left_out_a_measured_device_runs_the_kernels_it_runs(name, engine):
    """Taken for unmeasured, it gets every kernel that it was measured with, from others."""
    device = catalog_device(name)
    measured, lent = (laws_of(each, engine).attention["bf16"] for each in (device, unmeasured_device(device)))
    kernels = [(law.kernel, law.other and law.other.kernel) for law in (measured, lent)]
    assert kernels[0] == kernels[1]
    assert lent.t0 != measured.t0


def test_a_twin_of_the_donor_gets_its_laws():
    """Carried over to a device that differs by its name alone the parameters are unchanged."""
    laws, own = laws_of(unmeasured(standard="HBM2e")), A100.laws.of("vllm")
    matrix, owns = (each.physics.matrix.model_dump(mode="python") for each in (laws, own))
    assert matrix.pop("efficiency") == owns.pop("efficiency")
    assert matrix == pytest.approx(owns, rel=1e-12)
    physics = laws.physics.model_copy(update={"matrix": own.physics.matrix})
    assert laws.model_copy(update={"physics": physics, "fitted_on": own.fitted_on, "moe": own.moe}) == own
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


@pytest.mark.parametrize("name", names("device"))
def test_memory_streams_as_it_was_measured_to_elsewhere(name):
    """NVIDIA's files without measurements state the efficiency that the rule gives, or leave it out where it gives none.

    Other vendors have controllers of their own.
    """
    device = catalog_device(name)
    if device.vendor == "NVIDIA" and device.laws is None:
        assert device.memory.efficiency == lent_efficiency(device)


def test_left_out_the_two_of_hbm3_lend_each_other_their_efficiency():
    """Both refresh bank by bank; HBM2e and GDDR7 have nobody else, and get the closed form."""
    lent = [unmeasured_device(catalog_device(name)).memory.efficiency for name in MEASURED]
    measured = [catalog_device(name).memory.efficiency for name in MEASURED]
    assert lent == [None, measured[2], measured[1], None]


def test_more_bandwidth_on_the_same_dies_makes_16_bit_faster_and_not_what_sms_convert():
    """H200 is H100 with other memory: FlashAttention 3 in fp8 waits for its SMs on both."""
    hopper, h200 = (laws_of(catalog_device(name)).attention for name in ("h100-sxm", "h200-sxm"))
    assert h200 == hopper
    rates = [catalog_device(name).memory.bandwidth * 0.9 for name in ("h100-sxm", "h200-sxm")]
    converted = hopper["fp8"].sm_bandwidth * 132
    assert converted < rates[0] < rates[1]


def test_items_of_a_generation_s_kernels_start_with_a_tile():
    """At twice the matrix rate of an SM they pass twice as fast, and start in 1 / sqrt(2) of the time; no others do."""
    donor = catalog_device("h100-sxm")
    faster = {dtype: 2 * peak for dtype, peak in donor.compute.peak.items()}
    twice = donor.model_copy(
        update={"name": "twice", "laws": None, "compute": donor.compute.model_copy(update={"peak": faster})}
    )
    for engine, tile in (("vllm", True), ("sglang", True), ("trtllm", False)):
        ours, theirs = laws_of(twice, engine).attention["bf16"], donor.laws.of(engine).attention["bf16"]
        assert ours.item_bandwidth == pytest.approx(theirs.item_bandwidth * (2 if tile else 1))
        assert ours.t_item == pytest.approx(theirs.t_item / (2**0.5 if tile else 1))
        assert ours.t0 == theirs.t0


def test_flash_attention_3_on_ampere_is_2_with_one_item_on_an_sm():
    """Its source is that of Hopper, its instructions are those of Ampere."""
    a100 = unmeasured_device(A100)
    third, second = (laws_of(a100, engine).attention["bf16"] for engine in ("sglang", "vllm"))
    assert (third.kernel, second.kernel) == ("flash_attention_3_ampere", "flash_attention_2")
    assert third.item_bandwidth == pytest.approx(second.item_bandwidth / 2)
    assert (third.t0, third.t_item) == pytest.approx((second.t0, second.t_item))
    assert third.t_copy == 0


@pytest.mark.parametrize(("name", "engine"), [("h100-sxm", "vllm"), ("h100-sxm", "sglang"), ("b200-sxm", "sglang")])
def test_fp8_of_a_kernel_measured_nowhere_adds_what_the_engine_launches(name, engine):
    """Left out, fp8 is 16 bit with more launched; where an SM converts, also with longer starts and a limit of its own."""
    laws = laws_of(unmeasured_device(catalog_device(name)), engine).attention
    assert laws["bf16"].kernel == laws["fp8"].kernel
    assert laws["fp8"].t0 > laws["bf16"].t0
    converts = laws["fp8"].kernel == "flash_attention_3"
    assert (laws["fp8"].sm_bandwidth is not None) == converts
    assert (laws["fp8"].t_item > laws["bf16"].t_item) == converts
    assert laws["bf16"].sm_bandwidth is None


@pytest.mark.parametrize(("name", "has_one"), [("h200-sxm", True), ("b300-sxm", True), ("l40s", False)])
def test_flashinfer_is_a_backend_where_it_is_not_the_usual_kernel(name, has_one):
    """With GDDR SGLang runs it anyway."""
    device = catalog_device(name)
    assert ("sglang-flashinfer" in device_laws_of(device).engines) == has_one
    assert laws_of(device, "sglang-flashinfer").attention["bf16"].kernel == "flashinfer"
