"""What a law says of a kernel, and the one formula that turns it into a duration.

A kernel takes ``fixed + smooth_max(other, memory)``: what every call pays, and a smooth maximum of the time of its
work items or tiles with the time its bytes take. The same formula serves the idle GPU and the contended one: there,
*memory* is what the bytes really took.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gpusim.core.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class KernelTime:
    """Terms of a kernel's duration; arrays are (rows,) or (steps,)."""

    fixed_s: FloatArray
    """Launch, split and reduction: added whatever the rest takes."""
    other_s: FloatArray
    """Work items, tiles, matrix units."""
    l2_s: FloatArray
    """Part of the memory time that L2 serves; other traffic cannot stretch it."""
    even_bytes: FloatArray
    """Bytes of device memory spread over all channels alike."""
    kv_bytes: FloatArray
    """Bytes of the KV cache, on the channels where its blocks lie."""
    memory_rate: float
    """What the kernel streams alone, all channels together, in bytes/s."""
    smoothness: float
    """Exponent of the smooth maximum; infinity for the plain one."""
    weight_bytes: FloatArray | float = 0.0
    """Part of even_bytes that is weights."""

    def memory_s(self, imbalance: FloatArray | float = 1.0) -> FloatArray:
        """Time of the bytes on an idle GPU; *imbalance* = fullest channel / mean, of the KV bytes."""
        return self.l2_s + (self.even_bytes + self.kv_bytes * imbalance) / self.memory_rate

    def duration_s(self, memory_s: FloatArray) -> FloatArray:
        """Duration of the kernel when its bytes take *memory_s*."""
        return self.fixed_s + smooth_max(self.other_s, memory_s, self.smoothness)

    def at(self, row: int) -> KernelTime:
        """The terms of one row, as arrays of length 1."""
        one = slice(row, row + 1)
        return replace(
            self,
            fixed_s=self.fixed_s[one],
            other_s=self.other_s[one],
            l2_s=self.l2_s[one],
            even_bytes=self.even_bytes[one],
            kv_bytes=self.kv_bytes[one],
            weight_bytes=self.weight_bytes[one] if isinstance(self.weight_bytes, np.ndarray) else self.weight_bytes,
        )


def smooth_max(a: FloatArray, b: FloatArray, exponent: float) -> FloatArray:
    """``(a^p + b^p)^(1/p)``, element by element, without overflow; never below the larger of the two."""
    larger, smaller = np.maximum(a, b), np.minimum(a, b)
    if np.isinf(exponent):
        return larger
    ratio = np.divide(smaller, larger, out=np.zeros_like(larger), where=larger > 0)
    if exponent == 3.0:  # ten times faster than powers of any exponent
        cubic: FloatArray = larger * np.cbrt(1.0 + ratio * ratio * ratio)
        return cubic
    result: FloatArray = larger * (1.0 + ratio**exponent) ** (1.0 / exponent)
    return result


def l2_hit(reuse_distance: FloatArray | None, usable_bytes: float, sharpness: float = 8.0) -> FloatArray | float:
    """Fraction of data found in L2 when it is read again.

    Args:
        reuse_distance: Bytes read since it was read last, itself included; None: no end of them.
        usable_bytes: The hit rate is 1 far below this, 0 far above, half at it.
        sharpness: How steeply it falls there.
    """
    if reuse_distance is None:
        return 0.0
    result: FloatArray = 1.0 / (1.0 + (reuse_distance / usable_bytes) ** sharpness)
    return result
