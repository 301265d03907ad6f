"""Laws of the collectives of a machine nobody measured (`docs/default-laws.md`).

A machine of a generation that was measured, with links of the same kind, has that one's. Of any other of NVIDIA's it is the mean
of the measured machines with NVLink, their times at the clock of the new one, and half as much again between two dies.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import numpy as np

from gpusim.spec.base import Spec
from gpusim.spec.collective_law import EngineAllReduceLawSpec, NcclLawSpec
from gpusim.spec.device import AggregateMemorySpec, DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.names import read
from gpusim.units import MiB

_SWITCHED: Final = {"ampere": "a100-sxm-80gb", "hopper": "h100-sxm", "blackwell": "b200-sxm"}
"""Measured machines with NVLink, by generation."""
_NVIDIA: Final = frozenset({"volta", "turing", "ada", *_SWITCHED})
_TUNING: Final = {"turing": "volta", "ada": "ampere"}
_TWO_DIES: Final = 1.5
"""What all times take on a GPU of two dies: from H100 to B200, at one clock, they grow 1.4 to 1.7-fold."""
_ADDING_SWITCHES: Final = frozenset({"hopper", "blackwell"})
"""Generations with multicast, which memory that all ranks share needs."""
_WITHOUT: Final = 8 * MiB
"""vLLM's limit where there is none."""
_AnySpec = TypeVar("_AnySpec", bound=Spec)


def nccl_of(device: DeviceSpec, donor: DeviceSpec) -> NcclLawSpec:
    """Return NCCL's law on machines of *device*, whose general *donor* is known."""
    assert donor.laws is not None
    law = donor.laws.nccl
    lenders = _lenders(device, donor)
    if lenders:
        laws = [lender.laws.nccl for lender in lenders if lender.laws is not None]
        law = _mean(law, laws, [_pace(lender) / _pace(device) for lender in lenders])
    tuning = _TUNING.get(device.family, device.family)
    return law.model_copy(update={"tuning": tuning}) if device.family in _NVIDIA else law


def all_reduce_of(device: DeviceSpec, donor: DeviceSpec, engine: str) -> EngineAllReduceLawSpec | None:
    """Return the law of an *engine*'s own all-reduce; which sizes it takes is the donor's."""
    assert donor.laws is not None
    law = donor.laws.engines[engine].all_reduce
    if law is not None and law.symmetric is not None and device.family not in _ADDING_SWITCHES:
        law = law.model_copy(update={"symmetric": None, "max_bytes": dict.fromkeys((2, 4, 6, 8), _WITHOUT)})
    found = [
        (laws.all_reduce, _pace(lender) / _pace(device))
        for lender in _lenders(device, donor)
        if lender.laws is not None and (laws := lender.laws.engines.get(engine)) and laws.all_reduce is not None
    ]
    return law if law is None or not found else _mean(law, [one for one, _ in found], [pace for _, pace in found])


def _lenders(device: DeviceSpec, donor: DeviceSpec) -> list[DeviceSpec]:
    """Return the machines whose mean is lent; none: the donor lends its own."""
    if device.family not in _NVIDIA or (donor.family == device.family and _is_gddr(donor) == _is_gddr(device)):
        return []
    if _is_gddr(device) and _is_gddr(donor):
        return []
    return [validate(DeviceSpec, read("device", name)) for name in _SWITCHED.values() if name != device.name]


def _is_gddr(device: DeviceSpec) -> bool:
    memory = device.memory
    return not isinstance(memory, AggregateMemorySpec) and memory.standard.startswith("GDDR")


def _pace(device: DeviceSpec) -> float:
    """Return how fast what waits for signals goes on a device."""
    has_two_dies = device.family == "blackwell" and not _is_gddr(device)
    return device.compute.boost_clock / (_TWO_DIES if has_two_dies else 1.0)


def _mean(law: _AnySpec, laws: list[_AnySpec], paces: list[float]) -> _AnySpec:
    """Return *law* with the geometric mean of every number that some of *laws* state; times longer by their *paces*."""
    update: dict[str, Any] = {}
    for name in type(law).model_fields:
        value = getattr(law, name)
        stated = [
            (getattr(one, name), pace) for one, pace in zip(laws, paces, strict=True) if name in one.model_fields_set
        ]
        stated = [(one, pace) for one, pace in stated if one is not None]
        if isinstance(value, Spec) and stated:
            update[name] = _mean(value, [one for one, _ in stated], [pace for _, pace in stated])
        elif isinstance(law, EngineAllReduceLawSpec) and len(stated) < len(laws):
            continue  # what only one engine's kernel on one machine needs is no law of others
        elif isinstance(value, float) and stated and all(one > 0 for one, _ in stated):
            numbers = [one * pace if name == "t0" or name.startswith("t_") else one for one, pace in stated]
            update[name] = float(np.exp(np.mean(np.log(numbers))))
    return law.model_copy(update=update)
