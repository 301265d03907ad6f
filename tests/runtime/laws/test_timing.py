"""The one formula of all kernels: its smooth maximum, its rows, the share of L2."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusim.runtime.laws.timing import KernelTime, l2_hit, smooth_max

times = st.floats(0, 1e3)
exponents = st.floats(1, 50)


def smooth(a, b, exponent):
    return float(smooth_max(np.array([a]), np.array([b]), exponent)[0])


def build_terms(**changes):
    """Return the terms of three rows."""
    rows = {"fixed_s": [1.0, 2.0, 3.0], "other_s": [4.0, 5.0, 6.0], "l2_s": [0.1, 0.2, 0.3]}
    rows |= {"even_bytes": [10.0, 20.0, 30.0], "kv_bytes": [5.0, 6.0, 7.0]}
    arrays = {name: np.array(values) for name, values in rows.items()}
    return KernelTime(**arrays, **({"memory_rate": 10.0, "smoothness": 2.0} | changes))


@given(times, times, exponents)
def test_smooth_max_lies_between_the_larger_and_the_sum(a, b, exponent):
    """Never below the larger of the two, never above both together."""
    assert max(a, b) <= smooth(a, b, exponent) <= (a + b) * (1 + 1e-12)


@given(times, times, exponents)
def test_smooth_max_does_not_care_for_order(a, b, exponent):
    """It is symmetric to the last bit."""
    assert smooth(a, b, exponent) == smooth(b, a, exponent)


@given(times, times, exponents, st.floats(1e-9, 1e9))
def test_smooth_max_scales(a, b, exponent, factor):
    """Both times k times as long: k times as long."""
    assert smooth(factor * a, factor * b, exponent) == pytest.approx(factor * smooth(a, b, exponent), rel=1e-9)


@given(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3), st.floats(1, 6))
def test_smooth_max_is_the_p_norm(a, b, exponent):
    """It is (a^p + b^p)^(1/p); at p = 1 the sum, at infinity the larger one."""
    assert smooth(a, b, exponent) == pytest.approx((a**exponent + b**exponent) ** (1 / exponent), rel=1e-9)
    assert smooth(a, b, 1.0) == pytest.approx(a + b, rel=1e-12)
    assert smooth(a, b, np.inf) == max(a, b)


def test_smooth_max_neither_overflows_nor_divides_by_zero():
    """Values whose powers are out of range of a float, and zeros, give what they must."""
    assert smooth(1e200, 1e200, 50.0) == pytest.approx(1e200 * 2 ** (1 / 50))
    assert smooth(1e-200, 1e200, 10.0) == 1e200
    assert smooth(0.0, 0.0, 3.0) == 0.0


def test_a_duration_is_fixed_plus_smooth_maximum():
    """It is fixed + (other^p + memory^p)^(1/p), memory being L2's part and the bytes at the kernel's rate."""
    terms = build_terms()
    assert terms.memory_s() == pytest.approx([0.1 + 1.5, 0.2 + 2.6, 0.3 + 3.7])
    expected = [1 + np.hypot(4, 1.6), 2 + np.hypot(5, 2.8), 3 + np.hypot(6, 4.0)]
    assert terms.duration_s(terms.memory_s()) == pytest.approx(expected, rel=1e-12)


def test_only_kv_waits_for_the_fullest_channel():
    """Imbalance stretches the KV bytes, not those that lie on all channels alike."""
    assert build_terms().memory_s(2.0) == pytest.approx([0.1 + 2.0, 0.2 + 3.2, 0.3 + 4.4])


def test_a_row_is_that_row():
    """The terms of one row give its duration, bit for bit."""
    terms = build_terms(weight_bytes=3.0)
    for row in range(3):
        one = terms.at(row)
        assert one.duration_s(one.memory_s()).tolist() == [terms.duration_s(terms.memory_s())[row]]
        assert (one.weight_bytes, one.memory_rate) == (3.0, 10.0)


def test_l2_holds_what_fits():
    """All of a working set far below the usable size, half at it, nothing far above; less the larger it is."""
    hit = l2_hit(np.array([1e3, 3e7, 1e9]), 3e7)
    assert hit == pytest.approx([1.0, 0.5, 0.0], abs=1e-9)
    assert (np.diff(l2_hit(np.geomspace(1e6, 1e9, 50), 3e7)) <= 0).all()
