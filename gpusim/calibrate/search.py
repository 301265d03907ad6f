"""The search for the parameters that leave the least error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gpusim.calibrate.parameters import Parameter
from gpusim.core.arrays import FloatArray


def search(error: Callable[[FloatArray], float], start: FloatArray, parameters: tuple[Parameter, ...]) -> FloatArray:
    """Return values near *start* that minimise *error*, each within its parameter's range.

    A simplex search (Nelder and Mead, 1965) in the logarithms: it asks for no gradients, which the steps that waves and splits
    make in the laws would spoil, and is deterministic. It is begun once more where it ended, since a simplex may collapse early.

    Args:
        error: Of given values, (parameters,).
        start: (parameters,)
        parameters: Their ranges.
    """
    from scipy.optimize import minimize  # noqa: PLC0415  slow to import, and only needed here

    low, high = (np.log([getattr(parameter, side) for parameter in parameters]) for side in ("low", "high"))
    found = np.clip(np.log(start), low, high)
    for _ in range(2):
        found = minimize(
            lambda values: error(np.exp(values)),
            found,
            method="Nelder-Mead",
            bounds=list(zip(low, high, strict=True)),
            options={"xatol": 1e-3, "fatol": 1e-6, "adaptive": True, "maxfev": 300 * len(found)},
        ).x
    values: FloatArray = np.exp(found)
    return values
