"""Laws of a device nobody measured: a measured sibling's, carried over by a written rule.

The rule (`docs/default-laws.md` gives the reasons): the donor is chosen by kind of memory first (GDDR or not), then by
architecture family. Dimensionless values and launch times are taken over; what an SM or a work item can stream scales
with the boost clock. What the donor has laws for is carried over even where the device states no peak for that type;
it then computes at its 16-bit rate.
"""

from __future__ import annotations

from typing import Final

from gpusim.spec.device import AggregateMemorySpec, DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.laws import DEFAULT_ENGINE, DeviceLawsSpec, EngineLawsSpec, LawsSpec
from gpusim.spec.names import read

_HBM_DONOR: Final = {"hopper": "h100-sxm", "cdna3": "h100-sxm", "blackwell": "b200-sxm", "cdna4": "b200-sxm"}
"""By family; AMD's have the donor of their year, the same generation of HBM and as much memory a GPU."""
_OTHER_HBM_DONOR: Final = "a100-sxm-80gb"
_GDDR_DONOR: Final = "rtx-pro-6000-server"


def laws_of(device: DeviceSpec, engine: str = DEFAULT_ENGINE) -> LawsSpec:
    """Return the measured laws of *device* where *engine* serves, and what it has none of from its donor."""
    own = None if device.laws is None else device.laws.of(engine)
    if own is not None and own.prefill and own.moe and own.mla:
        return own
    donor = validate(DeviceSpec, read("device", donor_name(device)))
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
    return carried_over(validate(DeviceSpec, read("device", donor_name(device))), device)


def donor_name(device: DeviceSpec) -> str:
    """Return the name of the measured device that lends its laws to *device*."""
    memory = device.memory
    if not isinstance(memory, AggregateMemorySpec) and memory.standard.startswith("GDDR"):
        return _GDDR_DONOR
    return _HBM_DONOR.get(device.family, _OTHER_HBM_DONOR)


def carried_over(donor: DeviceSpec, device: DeviceSpec) -> DeviceLawsSpec:
    """Return the laws of *donor* scaled to *device*."""
    assert donor.laws is not None, f"{donor.name} is named as a donor but has no laws"
    clock = device.compute.boost_clock / donor.compute.boost_clock
    engines = {name: _scaled(laws, clock) for name, laws in donor.laws.engines.items()}
    fitted_on = f"nothing of {device.name}: {donor.name} by the default rule"
    return donor.laws.model_copy(update={"engines": engines, "fitted_on": fitted_on})


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
    prefill = laws.prefill and laws.prefill.model_copy(
        update={"t_tile": laws.prefill.t_tile / clock, "t_empty": laws.prefill.t_empty / clock}
    )
    return laws.model_copy(update={"attention": attention, "prefill": prefill, "gemm": gemm, "mla": mla})
