"""What an unmeasured device does for tiles of matrix products: a donor's figures, and what the data sheets say of both."""

from __future__ import annotations

from statistics import geometric_mean
from typing import Final

from gpusim.hardware.memory import achieved_fraction
from gpusim.spec.base import WeightDtype
from gpusim.spec.device import DeviceSpec
from gpusim.spec.gemm_law import GemmLawSpec, MatrixSpec

MOST_BYTES: Final = 107.0
"""That an SM takes in a cycle: the mean of H100 and B200. Wider is what shared memory writes, 128."""
FLOPS_A_BYTE: Final = 32.0
"""16-bit multiplications and additions for each byte of two operands, 64 x 64 outputs at a time."""
WHOLE_L2: Final = 1.05
"""`l2_fraction` where all of L2 is of use: what fills it just so is still found."""
SMALL_TILES: Final = ((16, 64), (32, 64), (64, 64))
"""Of CUTLASS kernels for fp8 that have 100 KiB of shared memory: dies made for GDDR have no more, the others 164 and 228."""


def matrix_of(device: DeviceSpec, donor: DeviceSpec) -> MatrixSpec:
    """Return the donor's figures scaled to *device*, see docs/default-laws.md."""
    assert donor.laws is not None, f"{donor.name} is named as a donor but has no laws"
    matrix = donor.laws.physics.matrix
    clock = device.compute.boost_clock / donor.compute.boost_clock
    reached = matrix.streaming * (1.0 if are_siblings(device, donor) else _usual_factor(donor))
    changes = {
        "streaming": _streaming(device, donor, reached),
        "l2_fraction": min(max(WHOLE_L2, matrix.l2_fraction), matrix.l2_fraction * _halves(donor) / _halves(device)),
        "sm_bandwidth": matrix.sm_bandwidth * clock if are_siblings(device, donor) else sm_bandwidth(device),
        "row_bandwidth": matrix.row_bandwidth * clock,
    }
    if are_siblings(device, donor):
        faster = changes["streaming"] * _achieved(device) / (matrix.streaming * _achieved(donor))
        changes["l2_speedup"] = max(1.0, matrix.l2_speedup / (faster * _demand(device, donor)))
    return matrix.model_copy(update=changes)


def _usual_factor(donor: DeviceSpec) -> float:
    """Return what the donor's kernels reach of its best in the mean: which of them is best elsewhere nobody knows."""
    assert donor.laws is not None
    return geometric_mean(law.memory_factor for engine in donor.laws.engines.values() for law in engine.gemm.values())


def _streaming(device: DeviceSpec, donor: DeviceSpec, streaming: float) -> float:
    """Return the streaming efficiency of weights: what the donor loses, as an SM asks for more or fewer bytes a cycle."""
    lost = max(0.0, 1.0 - streaming * _achieved(donor) / _closed_form(donor))
    return min(1.0, (1.0 - lost * _demand(device, donor)) * _closed_form(device) / _achieved(device))


def _demand(device: DeviceSpec, donor: DeviceSpec) -> float:
    """Return how many bytes of memory bandwidth there are for each cycle of an SM, relative to the donor."""
    own, lent = (each.memory.bandwidth / (each.compute.sm_count * each.compute.boost_clock) for each in (device, donor))
    return own / lent


def _achieved(device: DeviceSpec) -> float:
    return achieved_fraction(device.memory)


def _closed_form(device: DeviceSpec) -> float:
    """Return what long reads achieve by the standard of the memory, measured or not."""
    return achieved_fraction(device.memory.model_copy(update={"efficiency": None}))


def products_of(device: DeviceSpec, donor: DeviceSpec, engine: str) -> dict[WeightDtype, GemmLawSpec]:
    """Return the donor's kernels of *engine*, and of those that only its own generation has what others have instead."""
    assert donor.laws is not None, f"{donor.name} is named as a donor but has no laws"
    laws = donor.laws.engines[engine].gemm
    if are_siblings(device, donor):
        return laws
    has_small = _halves(device) < _halves(donor)
    return {
        stored: law.model_copy(
            update={
                "t_single_row": 0.0,
                "memory_factor": 1.0,
                "tiles": SMALL_TILES if has_small and law.choice == "rows" else law.tiles,
            }
        )
        for stored, law in laws.items()
    }


def are_siblings(device: DeviceSpec, donor: DeviceSpec) -> bool:
    """Whether both are of one generation and have memory of one kind."""
    return donor.family == device.family and _halves(donor) == _halves(device)


def sm_bandwidth(device: DeviceSpec) -> float:
    """Return the bytes/s that an SM takes in: as many a cycle as its matrix units use, up to what any SM was seen to."""
    peak = device.compute.peak
    flops = (peak["bf16"] if "bf16" in peak else peak["fp16"]) / device.compute.sm_count
    return min(MOST_BYTES * device.compute.boost_clock, flops / FLOPS_A_BYTE)


def _halves(device: DeviceSpec) -> int:
    """Return into how many parts L2 is divided, each with copies of what its SMs read: two where memory is HBM."""
    return 1 if getattr(device.memory, "standard", "").startswith("GDDR") else 2
