"""Laws of devices nobody measured: who lends them, what is scaled, what is not."""

from __future__ import annotations

import pytest

from gpusim.hardware.memory import achieved_fraction
from gpusim.runtime.carried_matrix import WHOLE_L2, matrix_of
from gpusim.runtime.default_laws import carried_over, donor_name, laws_of
from gpusim.hardware.memory import achieved_fraction
from gpusim.runtime.carried_matrix import WHOLE_L2, matrix_of
from gpusim.runtime.default_laws import unmeasured as unmeasured_device
from gpusim.spec.device import AggregateMemorySpec
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


def test_only_what_an_sm_takes_in_scales_with_the_clock():
    """cta_bandwidth by the ratio of boost clocks; all else, but products, physics and fitted_on, is the donor's."""
    donor = catalog_device("rtx-pro-6000-server")
    ratio = L40S.compute.boost_clock / donor.compute.boost_clock
    laws, donors = carried_over(donor, L40S).of("vllm"), donor.laws.of("vllm")
    for ours, theirs, scaled in (
        (laws.attention, donors.attention, "cta_bandwidth"),
        (laws.mla, donors.mla, "cta_bandwidth"),
    ):
        assert ours.keys() == theirs.keys()
        for dtype in ours:
            rate = getattr(theirs[dtype], scaled)
            assert getattr(ours[dtype], scaled) == pytest.approx(ratio * rate, rel=1e-12)
            assert ours[dtype].model_copy(update={scaled: rate}) == theirs[dtype]
    same = {name: getattr(donors, name) for name in ("attention", "gemm", "mla", "physics", "fitted_on")}
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


def test_a_twin_of_the_donor_gets_its_laws():
    """Carried over to a device that differs by its name alone the parameters are unchanged."""
    laws, donors = laws_of(unmeasured(standard="HBM2e")), A100.laws.of("vllm")
    matrix, donors_matrix = (each.physics.matrix.model_dump(mode="python") for each in (laws, donors))
    assert matrix.pop("efficiency") == donors_matrix.pop("efficiency")
    assert matrix == pytest.approx(donors_matrix, rel=1e-12)
    assert laws.model_copy(update={"physics": donors.physics, "fitted_on": donors.fitted_on}) == donors


def test_an_sm_takes_in_what_its_matrix_units_use():
    """Of another generation: bf16 FLOP/s / 32 where matrix units are narrow (A40, L40S), at most 107 bytes a cycle (MI300X)."""
    for name in ("a40", "l40s"):
        device = catalog_device(name)
        expected = device.compute.peak["bf16"] / device.compute.sm_count / 32
        assert laws_of(device).physics.matrix.sm_bandwidth == pytest.approx(expected, rel=1e-12)
    assert matrix_of(catalog_device("h100-sxm"), catalog_device("b200-sxm")).sm_bandwidth == pytest.approx(107 * 1.98e9)


def test_matrix_figures_of_a_sibling():
    """An H200 has an H100's L2 and SMs: as many bytes a second between them, although its memory is faster, which it strains more."""
    h100, h200 = (catalog_device(name) for name in ("h100-sxm", "h200-sxm"))
    own, donors = (laws_of(device).physics.matrix for device in (h200, h100))

    def rate(device, matrix):
        return matrix.streaming * achieved_fraction(device.memory) * device.memory.bandwidth

    assert own.l2_speedup * rate(h200, own) == pytest.approx(donors.l2_speedup * rate(h100, donors), rel=1e-9)
    assert own.sm_bandwidth == pytest.approx(donors.sm_bandwidth)
    assert own.streaming * achieved_fraction(h200.memory) < donors.streaming * achieved_fraction(h100.memory)


def test_which_kernels_take_a_single_row_is_not_lent_to_another_generation():
    """GB200 has B200's kernels for one row; H100, were it unmeasured, would not."""
    b200, h100, gb200 = (catalog_device(name) for name in ("b200-sxm", "h100-sxm", "gb200"))
    assert laws_of(gb200).gemm["fp8"].t_single_row == b200.laws.of("vllm").gemm["fp8"].t_single_row > 0
    assert carried_over(b200, h100).of("vllm").gemm["fp8"].t_single_row == 0


def test_l2_without_halves_counts_whole():
    """A GDDR die, were its only donor one with HBM, would have twice the usable part of L2, at most all of it."""
    matrix = matrix_of(catalog_device("rtx-pro-6000-server"), catalog_device("b200-sxm"))
    assert matrix.l2_fraction == WHOLE_L2


def test_an_engine_borrows_what_it_was_not_measured_for():
    """Own families first, then those of the other engines in the order of the file; an unknown engine has the first's."""
    laws = catalog_device("b200-sxm").laws
    vllm, sglang, unknown = (laws.of(name) for name in ("vllm", "sglang", "somebody"))
    assert vllm.gemm == laws.engines["vllm"].gemm == sglang.gemm
    assert vllm.mla == laws.engines["sglang"].mla == sglang.mla
    assert unknown == vllm
