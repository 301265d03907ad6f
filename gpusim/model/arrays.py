"""Types of the numbers and arrays that sizes are."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

FloatArray: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
IntArray: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
BoolArray: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"
Count: TypeAlias = "int | np.ndarray[Any, np.dtype[Any]]"
"""A whole number, or one for each of many rows."""
Size: TypeAlias = "float | np.ndarray[Any, np.dtype[Any]]"
"""Bytes, of one call or of each of many rows."""
