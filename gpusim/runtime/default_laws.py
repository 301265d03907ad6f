"""Laws of a device nobody measured: a measured sibling's, carried over by a written rule.

The rule (`docs/default-laws.md` gives the reasons): the donor is chosen by kind of memory first (GDDR or not), then by
architecture family. Dimensionless values and launch times are taken over; what an SM or a work item can stream scales
with the boost clock. What the donor has laws for is carried over even where the device states no peak for that type;
it then computes at its 16-bit rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from gpusim.spec.device import AggregateMemorySpec, DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.laws import (
    DEFAULT_ENGINE,
    DeviceLawsSpec,
    EngineLawsSpec,
    LawsSpec,
    WeightDtype,
)
from gpusim.spec.moe_law import MoeLawSpec, MoeLibrary
from gpusim.spec.names import read

Experts: TypeAlias = dict[WeightDtype, dict[MoeLibrary, MoeLawSpec]]

_AMPERE, _HOPPER, _BLACKWELL, _GDDR = "a100-sxm-80gb", "h100-sxm", "b200-sxm", "rtx-pro-6000-server"
_HBM_DONORS: Final = {
    "hopper": (_HOPPER, _BLACKWELL),
    "cdna3": (_HOPPER, _BLACKWELL),
    "blackwell": (_BLACKWELL, _HOPPER),
    "cdna4": (_BLACKWELL, _HOPPER),
}
"""By family; AMD's have the donor of their year, the same generation of HBM and as much memory a GPU. The second is for
the first itself, should it be taken for unmeasured."""
_MEASURED: Final = (_HOPPER, _AMPERE, _BLACKWELL, _GDDR)
_TRITON_ONLY: Final = {"volta", "turing", "ampere", "ada"}
"""vLLM computes their experts by Triton kernels: FlashInfer's are for Hopper and later."""
_OTHER_HBM_DONORS: Final = (_AMPERE, _HOPPER)
_GDDR_DONORS: Final = (_GDDR, _BLACKWELL)


def laws_of(device: DeviceSpec, engine: str = DEFAULT_ENGINE) -> LawsSpec:
    """Return the measured laws of *device* where *engine* serves, and what it has none of from its donor."""
    own = None if device.laws is None else device.laws.of(engine)
    if own is not None and own.moe and own.mla:
        return own
    donor = validate(DeviceSpec, read("device", donor_name(device)))
    lent = carried_over(donor, device).of(engine)
    return lent if own is None else own.model_copy(update={"moe": own.moe or lent.moe, "mla": own.mla or lent.mla})


def device_laws_of(device: DeviceSpec) -> DeviceLawsSpec:
    """Return the measured laws of *device*, or those carried over from its donor."""
    if device.laws is not None:
        return device.laws
    return carried_over(validate(DeviceSpec, read("device", donor_name(device))), device)


def donor_name(device: DeviceSpec) -> str:
    """Return the name of the measured device that lends its laws to *device*: the first choice that is another."""
    memory = device.memory
    candidates = _HBM_DONORS.get(device.family, _OTHER_HBM_DONORS)
    if not isinstance(memory, AggregateMemorySpec) and memory.standard.startswith("GDDR"):
        candidates = _GDDR_DONORS
    return next(name for name in candidates if name != device.name)


def unmeasured(device: DeviceSpec) -> DeviceSpec:
    """Return *device* as its data sheet alone describes it: without laws and without a measured streaming efficiency."""
    memory = device.memory.model_copy(update={"efficiency": None})
    return device.model_copy(update={"memory": memory, "laws": None})


def carried_over(donor: DeviceSpec, device: DeviceSpec) -> DeviceLawsSpec:
    """Return the laws of *donor* scaled to *device*."""
    assert donor.laws is not None, f"{donor.name} is named as a donor but has no laws"
    clock = device.compute.boost_clock / donor.compute.boost_clock
    engines = {name: _scaled(laws, clock) for name, laws in donor.laws.engines.items()}
    for name, laws in engines.items():
        engines[name] = laws.model_copy(update={"moe": _kernels_of_experts(name, laws, donor, device)})
    physics = donor.laws.physics
    return donor.laws.model_copy(
        update={
            "engines": engines,
            "physics": physics.model_copy(update={"sm_bandwidth": physics.sm_bandwidth * clock}),
            "fitted_on": f"nothing of {device.name}: {donor.name} by the default rule",
        }
    )


def _scaled(laws: EngineLawsSpec, clock: float) -> EngineLawsSpec:
    """Return *laws* at *clock* times the donor's."""
    attention = {
        dtype: law.model_copy(update={"cta_bandwidth": law.cta_bandwidth * clock})
        for dtype, law in laws.attention.items()
    }
    gemm = {
        dtype: law.model_copy(update={"sm_bandwidth": law.sm_bandwidth * clock}) for dtype, law in laws.gemm.items()
    }
    mla = {
        dtype: law.model_copy(update={"cta_bandwidth": law.cta_bandwidth * clock}) for dtype, law in laws.mla.items()
    }
    return laws.model_copy(update={"attention": attention, "gemm": gemm, "mla": mla})


def _kernels_of_experts(engine: str, laws: EngineLawsSpec, donor: DeviceSpec, device: DeviceSpec) -> Experts:
    """Return the donor's laws of experts, and of libraries that it does not use those of other measured devices."""
    if not laws.moe:
        return laws.moe
    found = {stored: dict(libraries) for stored, libraries in laws.moe.items()}
    for name in _MEASURED:
        if name not in {device.name, donor.name}:
            others = validate(DeviceSpec, read("device", name)).laws
            lent = {} if others is None or engine not in others.engines else others.engines[engine].moe
            for stored, libraries in lent.items():
                found[stored] = {**libraries, **found.get(stored, {})}
    preferred = ["triton"] if device.family in _TRITON_ONLY else []
    return {
        stored: _in_order(libraries, [*preferred, *laws.moe.get(stored, {})]) for stored, libraries in found.items()
    }


def _in_order(libraries: dict[MoeLibrary, MoeLawSpec], first: Sequence[str]) -> dict[MoeLibrary, MoeLawSpec]:
    """Return *libraries* with those named *first* in front."""
    place = {name: number for number, name in reversed(list(enumerate(first)))}
    return dict(sorted(libraries.items(), key=lambda law: place.get(law[0], len(place) + len(first))))
