"""What a user must know of where the laws of a run come from: a GPU, or kernels it runs, that nobody measured."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from gpusim.runtime.default_laws import donor_name
from gpusim.spec.device import DeviceSpec
from gpusim.spec.model import ModelSpec, MoeSpec

LEFT_OUT: Final = {"TTFT": 10.6, "ITL": 4.0, "E2E": 4.1}
"""Mean error of the measured serving runs, each GPU taken for unmeasured, in %: `docs/serving-accuracy.md`."""
NUM_RUNS: Final = 33
"""Of which that is the mean; all but three were on H100."""
KERNELS_LEFT_OUT: Final = {
    "attention": "10 to 17 %",
    "latent attention": "15 to 26 %",
    "matrix products": "10 to 17 %",
    "experts": "12 to 33 %",
    "collectives": "11 to 22 %",
}
"""Mean error of kernels, each GPU taken for unmeasured, from the best to the worst GPU: `docs/deviations.md`."""
MEASURED_VENDOR: Final = "NVIDIA"
"""Whose GPUs alone were measured."""
_READ: Final = "(docs/default-laws.md)"


def standing_in(device: DeviceSpec, model: ModelSpec, num_ranks: int) -> str:
    """Say whose laws stand in for those of *device* that nobody measured, and how far off to expect them.

    Args:
        device: Of an engine.
        model: What it serves; kernels that it does not run are not spoken of.
        num_ranks: GPUs it is split over.

    Returns:
        Where it stands and where to read on; nothing where the main kernels were measured, or laws do not say on what.
    """
    if device.laws is None:
        return f"{device.name}: no kernel of this GPU was measured, the laws of {donor_name(device)} stand in; {_expected(device)} {_READ}"
    missing = list(_missing(device.laws.fits, model, num_ranks))
    if not missing:
        return ""
    errors = ", ".join(f"{kernels} {KERNELS_LEFT_OUT[kernels]}" for kernels in missing)
    return (
        f"{device.name}: of this GPU no {' and no '.join(missing)} {'was' if len(missing) == 1 else 'were'} measured, the laws of "
        f"{donor_name(device)} stand in; on measured GPUs such laws are off in the mean by: {errors} {_READ}"
    )


def _expected(device: DeviceSpec) -> str:
    errors = ", ".join(f"{name} {error:.1f} %" for name, error in LEFT_OUT.items())
    found = f"measured GPUs, taken for such, are off by {errors} in the mean of {NUM_RUNS} serving runs, most of them on H100"
    if device.vendor in ("", MEASURED_VENDOR):
        is_gddr = getattr(device.memory, "standard", "").startswith("GDDR")
        return f"{found}; only one of them has GDDR: expect more" if is_gddr else found
    return f"{found}; no GPU of {device.vendor} was ever measured: expect more"


def _missing(fits: Collection[str], model: ModelSpec, num_ranks: int) -> Iterator[str]:
    """Name the kernels that *model* runs and *fits*, laws by name, do not tell of; none where nothing says what was fitted."""
    fitted = {part for law in fits for part in law.split(".")}
    is_latent = [group.attention.latent is not None for group in model.layers]
    needed = {
        "attention": ({"attention"}, not all(is_latent)),
        "latent attention": ({"mla"}, any(is_latent)),
        "matrix products": ({"gemm"}, True),
        "experts": ({"moe"}, any(isinstance(group.mlp, MoeSpec) for group in model.layers)),
        "collectives": ({"nccl", "all_reduce"}, num_ranks > 1),
    }
    yield from (name for name, (laws, is_run) in needed.items() if fits and is_run and not laws & fitted)
