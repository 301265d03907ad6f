"""One calibration: from a device and a folder of measurements to laws, with the error they leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from gpusim.calibrate.fit import Law, Sample, errors, fit, free_parameters, samples
from gpusim.calibrate.parameters import OWN, own_parameters, physics_parameters
from gpusim.core.arrays import FloatArray
from gpusim.errors import SpecError
from gpusim.runtime.default_laws import device_laws_of
from gpusim.silicon.bench import Bench
from gpusim.silicon.layout import Measurements
from gpusim.silicon.machines import device_name
from gpusim.silicon.tables import MEASURED
from gpusim.spec.device import DeviceSpec
from gpusim.spec.laws import DeviceLawsSpec, FitSpec


@dataclass(frozen=True, slots=True)
class Calibration:
    """Fitted laws and the rows they come from."""

    device: DeviceSpec
    """With the laws that were fitted."""
    samples: Sequence[Sample]
    """All that was read."""

    @property
    def laws(self) -> DeviceLawsSpec:
        """The laws."""
        assert self.device.laws is not None
        return self.device.laws

    @property
    def num_own(self) -> int:
        """Numbers that belong to kernels, all laws together."""
        return sum(fit.parameters for fit in self.fits.values())

    @property
    def num_physics(self) -> int:
        """Numbers that belong to the device."""
        laws = {sample.calls.law for sample in self.samples}
        return len({parameter for law in laws for parameter in physics_parameters(law)})

    @property
    def fits(self) -> dict[str, FitSpec]:
        """What was fitted now, by law."""
        now = {".".join(sample.calls.law) for sample in self.samples}
        return {law: fit for law, fit in self.laws.fits.items() if law in now}

    def rows(self) -> pl.DataFrame:
        """Return id, law and use (fit or held_out) of every row that was read."""
        parts = [
            pl.DataFrame({"id": sample.ids}).with_columns(
                law=pl.lit(".".join(sample.calls.law)), use=pl.lit("held_out" if sample.is_held_out else "fit")
            )
            for sample in self.samples
        ]
        return pl.concat(parts)


def calibrate(device: DeviceSpec, folder: Sequence[Measurements], gpu: str | None, source: str) -> Calibration:
    """Fit the laws of *device* on its rows of a folder.

    Args:
        device: What is known of it; the search begins at its laws, or at those of the default rule.
        folder: The tables.
        gpu: How they call the device; None: any name that means it.
        source: Where the measurements come from, for the device file.

    Raises:
        SpecError: If no row is of this device, or nothing was measured.
    """
    found = [sample for measured in folder for sample in _samples_of(measured, device, gpu)]
    if not any(not sample.is_held_out for sample in found):
        named = sorted({str(name) for measured in folder for name in measured.table["gpu"].unique()})
        raise SpecError(
            f"no measured core row of {gpu or device.name}; the tables hold {', '.join(named)} (--gpu says which)"
        )
    found.sort(key=lambda sample: (sample.calls.law, sample.is_held_out))
    before = device_laws_of(device)
    laws = fit(device, before, [sample for sample in found if own_parameters(sample.calls.law)])
    laws = with_origins(laws, before, fits_of(device, laws, found), source)
    return Calibration(device.model_copy(update={"laws": laws}), found)


def with_origins(laws: DeviceLawsSpec, before: DeviceLawsSpec, fits: dict[str, FitSpec], source: str) -> DeviceLawsSpec:
    """Return *laws* that say where they come from: what was fitted now, what was before, and what is still borrowed."""
    kept = {law: old for law, old in before.fits.items() if law not in fits}
    borrowed = {law: why for law, why in before.borrowed.items() if not any(f.startswith(law) for f in fits)}
    is_whole = bool(before.fits) and not kept
    origin = source if is_whole else f"{source}; laws that it does not tell of: {before.fitted_on}"
    return laws.model_copy(update={"fits": {**kept, **fits}, "borrowed": borrowed, "fitted_on": origin})


def _samples_of(measured: Measurements, device: DeviceSpec, gpu: str | None) -> list[Sample]:
    table = measured.table
    if MEASURED not in table.columns:
        return []
    names = [
        name for name in table["gpu"].unique() if name == gpu or (gpu is None and device_name(name) == device.name)
    ]
    usable = table.filter(pl.col("gpu").is_in(names)).drop_nulls([*measured.family.columns, MEASURED])
    return list(samples(measured.family, usable, device))


def fits_of(device: DeviceSpec, laws: DeviceLawsSpec, found: Sequence[Sample]) -> dict[str, FitSpec]:
    """Return how well each law explains the rows it was fitted on, and those kept out."""
    bench = Bench(device)
    by_law: dict[Law, dict[bool, list[Sample]]] = {}
    for sample in found:
        by_law.setdefault(sample.calls.law, {False: [], True: []})[sample.is_held_out].append(sample)
    scores = {}
    for law, parts in sorted(by_law.items()):
        used, kept = (
            np.expm1(errors(bench, laws, some)) if some else np.empty(0) for some in (parts[False], parts[True])
        )
        scores[".".join(law)] = FitSpec(
            parameters=len(free_parameters(laws, [*parts[False], *parts[True]])),
            tables=sorted({sample.table for some in parts.values() for sample in some}),
            **_score("", used),
            **_score("held_out_", kept),
        )
    return scores


def _score(prefix: str, error: FloatArray) -> dict[str, Any]:
    size = np.abs(error)
    return {
        f"{prefix}rows": len(error),
        f"{prefix}mape": round(float(size.mean()), 4) if len(size) else None,
        f"{prefix}p90": round(float(np.quantile(size, 0.9)), 4) if len(size) else None,
    }


def parameter_totals(calibration: Calibration) -> Mapping[str, int]:
    """Return how many numbers were fitted for each family of laws, and for the device."""
    totals: dict[str, int] = {}
    for law in sorted({sample.calls.law for sample in calibration.samples}):
        family = law[2] if law[0] == "engines" else ".".join(law)
        if family in OWN:
            totals[family] = totals.get(family, 0) + calibration.fits[".".join(law)].parameters
    return {**totals, "physics": calibration.num_physics}
