"""Latencies are floats that can be held against text with a unit."""

import copy
import json
import math
import operator
import pickle

import numpy as np
import pytest

from gpusim.errors import SpecError
from gpusim.results.quantity import Duration, shown

COMPARISONS = (operator.lt, operator.le, operator.gt, operator.ge)


@pytest.mark.parametrize("compare", COMPARISONS)
@pytest.mark.parametrize("value", [0.0499, 0.05, 0.0501, math.nan])
def test_text_compares_as_its_seconds(compare, value):
    """Text with a unit on either side means what the float of its seconds means."""
    latency = Duration(value)
    assert compare(latency, "50 ms") == compare(value, 0.05) == compare(latency, 0.05)
    assert compare("50 ms", latency) == compare(0.05, value) == compare(0.05, latency)


@pytest.mark.parametrize(
    ("limit", "part"), [("50 GB", "'GB' is not a unit of seconds"), ("50", "write the unit"), ("fast", "not a number")]
)
def test_text_that_is_no_time_is_refused(limit, part):
    """A wrong unit never passes as a limit that is kept; the message says what would do."""
    with pytest.raises(SpecError, match=part):
        Duration(0.05) < limit  # noqa: B015 - it is the comparison that raises


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "12.3 ms"), (0.0500004, "50.0004 ms"), (2.5, "2.5 s"), (0.0, "0 s"), (1e-6, "1 us"), (-2e-9, "-2 ns")],
)
def test_it_is_shown_with_a_unit(value, text):
    """What pytest shows of a failing limit has the unit of the limit's kind."""
    assert repr(Duration(value)) == text


def test_nothing_is_shown_as_nan():
    """Without an observation there is no unit to choose."""
    assert shown(math.nan) == "nan s"


def test_everywhere_else_it_is_the_float():
    """Files, formats, tables, hashes and arithmetic do not tell it from the float it is."""
    value = 0.1 + 0.2
    latency = Duration(value)
    assert json.dumps([latency]) == json.dumps([value])
    assert json.dumps([latency], indent=1) == json.dumps([value], indent=1)
    assert (str(latency), f"{latency}", f"{latency:.3f}") == (str(value), f"{value}", f"{value:.3f}")
    assert hash(latency) == hash(value)
    assert latency == value
    assert type(latency * 1000) is float
    assert np.array([latency]).dtype == float


def test_it_can_be_pickled_and_copied():
    """Results travel between processes."""
    latency = Duration(0.05)
    for twin in (pickle.loads(pickle.dumps(latency)), copy.deepcopy(latency)):  # noqa: S301 - our own bytes
        assert type(twin) is Duration
        assert twin == latency
