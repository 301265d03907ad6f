"""Sorting logits takes a fixed time and a time per sequence and vocabulary entry."""

from __future__ import annotations

import numpy as np
import pytest

from gpusim.model.work import Sort
from gpusim.runtime.default_laws import laws_of
from gpusim.runtime.laws.kernels import CalibratedLaws, RooflineLaws
from machines import catalog_device, figures_of

VOCABULARY = 128_256


def seconds_of(name, elements):
    device = catalog_device(name)
    timing = CalibratedLaws(figures_of(device), laws_of(device)).time(Sort("sort_logits", elements))
    return timing.duration_s(timing.memory_s())


def test_an_h100_takes_155_ps_an_element():
    """The closed form that serving runs on H100 gave: 0.155 ns per sequence and vocabulary entry, beside a launch."""
    launch_s = laws_of(catalog_device("h100-sxm")).elementwise.t0
    assert seconds_of("h100-sxm", 64.0 * VOCABULARY) == pytest.approx(launch_s + 64 * VOCABULARY * 0.155e-9, rel=1e-3)


def test_it_is_linear_in_sequences():
    """Twice the sequences take twice the time beyond the launch, in one call of many rows."""
    sequences = np.array([1.0, 2.0, 64.0, 128.0])
    beyond_s = seconds_of("a100-sxm-80gb", sequences * VOCABULARY) - seconds_of("a100-sxm-80gb", 0.0)
    np.testing.assert_allclose(beyond_s / sequences, beyond_s[0], rtol=1e-9)


def test_it_follows_the_streaming_rate():
    """A GPU that streams half as fast sorts half as fast."""
    rates = [figures_of(catalog_device(name)).bandwidth for name in ("h100-sxm", "a100-sxm-80gb")]
    times = [
        seconds_of(name, 1e9) - laws_of(catalog_device(name)).elementwise.t0 for name in ("h100-sxm", "a100-sxm-80gb")
    ]
    assert times[1] / times[0] == pytest.approx(rates[0] / rates[1], rel=1e-9)


def test_ideally_keys_and_indices_pass_four_times():
    """The roofline: 4 passes of 8 bits read and write 8 bytes an element, at peak bandwidth."""
    figures = figures_of(catalog_device("h100-sxm"))
    timing = RooflineLaws(figures).time(Sort("sort_logits", 1e6))
    assert timing.duration_s(timing.memory_s()) == pytest.approx(4 * 2 * 8 * 1e6 / figures.bandwidth, rel=1e-12)
