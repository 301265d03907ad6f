"""Types of arrays, by what they hold."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

IntArray: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
FloatArray: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
BoolArray: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"
