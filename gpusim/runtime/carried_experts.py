"""Kernels of experts on a device nobody measured: the donor's, and of libraries it does not use those of other devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from gpusim.spec.base import WeightDtype
from gpusim.spec.device import DeviceSpec
from gpusim.spec.moe_law import MoeLawSpec, MoeLibrary

Experts: TypeAlias = dict[WeightDtype, dict[MoeLibrary, MoeLawSpec]]

_TRITON_ONLY: Final = {"volta", "turing", "ampere", "ada"}
"""vLLM computes their experts by Triton kernels: FlashInfer's are for Hopper and later."""


def carried_experts(donor: DeviceSpec, device: DeviceSpec, engine: str, others: Sequence[DeviceSpec]) -> Experts:
    """Return the laws of experts that *engine* has on *device*, by stored type and library; a run has the first.

    Args:
        donor: Who lends its laws.
        device: Who gets them.
        engine: Whose they are.
        others: Measured devices that lend what the donor does not have, the first that does.
    """
    own, *lenders = (_experts(each, engine) for each in (donor, *others))
    if not own:
        return own
    found = {stored: dict(libraries) for stored, libraries in own.items()}
    for lent in lenders:
        for stored, libraries in lent.items():
            found[stored] = {**libraries, **found.get(stored, {})}
    preferred = ["triton"] if device.family in _TRITON_ONLY else []
    return {stored: _in_order(libraries, [*preferred, *own.get(stored, {})]) for stored, libraries in found.items()}


def _experts(device: DeviceSpec, engine: str) -> Experts:
    return {} if device.laws is None or engine not in device.laws.engines else device.laws.engines[engine].moe


def _in_order(libraries: dict[MoeLibrary, MoeLawSpec], first: Sequence[str]) -> dict[MoeLibrary, MoeLawSpec]:
    """Return *libraries* with those named *first* in front."""
    place = {name: number for number, name in reversed(list(enumerate(first)))}
    return dict(sorted(libraries.items(), key=lambda law: place.get(law[0], len(first))))
