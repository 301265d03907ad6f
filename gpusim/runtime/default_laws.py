"""Laws of a device nobody measured: a measured sibling's, carried over by a written rule.

The rule (`docs/default-laws.md` gives the reasons): the donor is chosen by kind of memory first (GDDR or not), then by
architecture family. Dimensionless values and launch times are taken over; what an SM or a work item can stream scales
with the boost clock; decode attention has a rule of its own (`carried_attention`). What the donor has laws for is carried over even where the device states no peak for that type;
it then computes at its 16-bit rate.
"""

from __future__ import annotations

from functools import cache
from statistics import geometric_mean
from typing import Final

from gpusim.runtime.carried_attention import carried_attention, carried_backend
from gpusim.runtime.carried_experts import carried_experts
from gpusim.runtime.carried_matrix import matrix_of, products_of
from gpusim.runtime.default_collectives import all_reduce_of, nccl_of
from gpusim.runtime.engine_kernels import FLASHINFER_BACKEND
from gpusim.spec.attention_law import MlaLawSpec
from gpusim.spec.device import AggregateMemorySpec, DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.elementwise_law import ElementwiseLawSpec
from gpusim.spec.laws import DEFAULT_ENGINE, DeviceLawsSpec, EngineLawsSpec, LawsSpec, PhysicsSpec
from gpusim.spec.names import read

_AMPERE, _HOPPER, _BLACKWELL, _GDDR = "a100-sxm-80gb", "h100-sxm", "b200-sxm", "rtx-pro-6000-server"
_ALL: Final = (_BLACKWELL, _GDDR, _HOPPER, _AMPERE)
"""Measured devices, in the order in which they are asked for what a donor has not: the newest first."""
_HBM_DONORS: Final = {
    "hopper": (_HOPPER, _BLACKWELL),
    "cdna3": (_HOPPER, _BLACKWELL),
    "blackwell": (_BLACKWELL, _HOPPER),
    "cdna4": (_BLACKWELL, _HOPPER),
}
"""By family; AMD's have the donor of their year, the same generation of HBM and as much memory a GPU. The second is for
the first itself, should it be taken for unmeasured."""
_OTHER_HBM_DONORS: Final = (_AMPERE, _HOPPER)
_GDDR_DONORS: Final = (_GDDR, _BLACKWELL)
_REFRESHED_BY_BANKS: Final = ("HBM3", "HBM3e")
"""Standards for which the closed form, of all banks refreshed at once, is too low alike."""
_SM_MEASURED_ON: Final = {"turing": _AMPERE, "ampere": _AMPERE, "ada": _HOPPER, "hopper": _HOPPER}
"""By family: an SM is its generation's, whatever the memory."""


def laws_of(device: DeviceSpec, engine: str = DEFAULT_ENGINE) -> LawsSpec:
    """Return the measured laws of *device* where *engine* serves, and what it has none of from its donor."""
    own = None if device.laws is None else device.laws.of(engine)
    if own is not None and own.prefill and own.moe and own.mla:
        return own
    donor = _measured(donor_name(device))
    lent = carried_over(donor, device).of(engine)
    if own is None:
        return lent
    return own.model_copy(
        update={name: getattr(own, name) or getattr(lent, name) for name in ("prefill", "moe", "mla")}
    )


def device_laws_of(device: DeviceSpec) -> DeviceLawsSpec:
    """Return the measured laws of *device*, or those carried over from its donor."""
    if device.laws is not None:
        return device.laws
    return carried_over(_measured(donor_name(device)), device)


def donor_name(device: DeviceSpec) -> str:
    """Return the name of the measured device that lends its laws to *device*: the first choice that is another."""
    memory = device.memory
    candidates = _HBM_DONORS.get(device.family, _OTHER_HBM_DONORS)
    if not isinstance(memory, AggregateMemorySpec) and memory.standard.startswith("GDDR"):
        candidates = _GDDR_DONORS
    return next(name for name in candidates if name != device.name)


def unmeasured(device: DeviceSpec) -> DeviceSpec:
    """Return *device* as its data sheet alone describes it: without laws, with the streaming efficiency others lend it."""
    memory = device.memory.model_copy(update={"efficiency": lent_efficiency(device)})
    return device.model_copy(update={"memory": memory, "laws": None})


def lent_efficiency(device: DeviceSpec) -> float | None:
    """Return the mean streaming efficiency measured on others with the same memory; None: what follows from the standard."""
    if isinstance(device.memory, AggregateMemorySpec):
        return None
    standard, kin = device.memory.standard, _REFRESHED_BY_BANKS
    measured: dict[str, list[float]] = {}
    for other in (_measured(name) for name in _ALL if name != device.name):
        assert not isinstance(other.memory, AggregateMemorySpec)
        if other.memory.efficiency is not None:
            measured.setdefault(other.memory.standard, []).append(other.memory.efficiency)
    alike = measured.get(standard) or [each for name in kin if standard in kin for each in measured.get(name, [])]
    return round(geometric_mean(alike), 3) if alike else None


def carried_over(donor: DeviceSpec, device: DeviceSpec) -> DeviceLawsSpec:
    """Return the laws of *donor* scaled to *device*."""
    assert donor.laws is not None, f"{donor.name} is named as a donor but has no laws"
    clock = device.compute.boost_clock / donor.compute.boost_clock
    is_kin = device.family == donor.family
    others = [_measured(name) for name in _ALL if name not in (donor.name, device.name)]
    engines = {
        name: _scaled(laws, clock, is_kin=is_kin).model_copy(
            update={
                "attention": carried_attention(donor, device, name, others),
                "gemm": products_of(device, donor, name),
                "moe": carried_experts(donor, device, name, others),
                "all_reduce": all_reduce_of(device, donor, name),
            }
        )
        for name, laws in donor.laws.engines.items()
    }
    backend = carried_backend([donor, *others], device)
    engines.pop(FLASHINFER_BACKEND, None)
    if backend:
        engines[FLASHINFER_BACKEND] = EngineLawsSpec(attention=backend)
    return donor.laws.model_copy(
        update={
            "engines": engines,
            "physics": _physics(donor, device),
            "nccl": nccl_of(device, donor),
            "elementwise": _elementwise(donor.laws.elementwise, clock, device),
            "fits": {},
            "borrowed": {},
            "fitted_on": f"nothing of {device.name}: {donor.name} by the default rule",
        }
    )


@cache
def _measured(name: str) -> DeviceSpec:
    return validate(DeviceSpec, read("device", name))


def _physics(donor: DeviceSpec, device: DeviceSpec) -> PhysicsSpec:
    """Return the donor's with L2 as fast for each SM and cycle: its bandwidth relative to the device's own memory."""
    assert donor.laws is not None
    own, lent = (each.memory.bandwidth / (each.compute.sm_count * each.compute.boost_clock) for each in (device, donor))
    physics = donor.laws.physics
    return physics.model_copy(
        update={
            "l2_speedup": max(1.0, physics.l2_speedup * lent / own),
            "matrix": matrix_of(device, donor),
        }
    )


def _elementwise(law: ElementwiseLawSpec, clock: float, device: DeviceSpec) -> ElementwiseLawSpec:
    """Return *law* at *clock* times the donor's: a launch is cycles, a round trip cycles and memory; SMs are a generation's."""
    efficiency, kin = law.issue_efficiency, _SM_MEASURED_ON.get(device.family)
    if kin is not None and kin != device.name:
        laws = _measured(kin).laws
        assert laws is not None, f"{kin} is named as measured but has no laws"
        efficiency = laws.elementwise.issue_efficiency
    return law.model_copy(
        update={"t0": law.t0 / clock, "t_step": law.t_step / clock**0.5, "issue_efficiency": efficiency}
    )


def _mla(law: MlaLawSpec, clock: float) -> MlaLawSpec:
    """Return *law* at *clock* times the donor's: work items stream and add up so much faster."""
    reduced = None if law.reduce_bandwidth is None else law.reduce_bandwidth * clock
    return law.model_copy(update={"cta_bandwidth": law.cta_bandwidth * clock, "reduce_bandwidth": reduced})


def _scaled(laws: EngineLawsSpec, clock: float, *, is_kin: bool) -> EngineLawsSpec:
    """Return *laws* at *clock* times the donor's, but for decode attention, products and collectives.

    Another family has kernels that read what its own convert.
    """
    mla = {dtype: _mla(law, clock) for dtype, law in laws.mla.items() if is_kin or law.convert_efficiency is None}
    return laws.model_copy(update={"mla": mla})
