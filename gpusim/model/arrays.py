"""Types of the numbers that sizes are: one, or one for each of many rows."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Count: TypeAlias = "int | np.ndarray[Any, np.dtype[Any]]"
"""A whole number, or one for each of many rows."""
Size: TypeAlias = "float | np.ndarray[Any, np.dtype[Any]]"
"""Bytes, of one call or of each of many rows."""
