"""Laws of a device nobody measured: a measured sibling's, carried over by a written rule.

The rule (`docs/default-laws.md` gives the reasons): the donor is chosen by kind of memory first (GDDR or not), then by
architecture family. Dimensionless values and launch times are taken over; what an SM or a work item can stream scales
with the boost clock. What the donor has laws for is carried over even where the device states no peak for that type;
it then computes at its 16-bit rate.
"""

from __future__ import annotations

from typing import Final

from gpusim.runtime.default_collectives import all_reduce_of, nccl_of
from gpusim.runtime.carried_matrix import matrix_of, products_of
from gpusim.spec.device import AggregateMemorySpec, DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.laws import DEFAULT_ENGINE, DeviceLawsSpec, EngineLawsSpec, LawsSpec
from gpusim.spec.names import read

_AMPERE, _HOPPER, _BLACKWELL, _GDDR = "a100-sxm-80gb", "h100-sxm", "b200-sxm", "rtx-pro-6000-server"
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
    engines = {
        name: _scaled(laws, clock).model_copy(
            update={"gemm": products_of(device, donor, name), "all_reduce": all_reduce_of(device, donor, name)}
        )
        for name, laws in donor.laws.engines.items()
    }
    return donor.laws.model_copy(
        update={
            "engines": engines,
            "physics": donor.laws.physics.model_copy(update={"matrix": matrix_of(device, donor)}),
            "nccl": nccl_of(device, donor),
            "fitted_on": f"nothing of {device.name}: {donor.name} by the default rule",
        }
    )


def _scaled(laws: EngineLawsSpec, clock: float) -> EngineLawsSpec:
    """Return *laws* at *clock* times the donor's."""
    attention = {
        dtype: law.model_copy(update={"cta_bandwidth": law.cta_bandwidth * clock})
        for dtype, law in laws.attention.items()
    }
    mla = {
        dtype: law.model_copy(update={"cta_bandwidth": law.cta_bandwidth * clock}) for dtype, law in laws.mla.items()
    }
    return laws.model_copy(update={"attention": attention, "mla": mla})
