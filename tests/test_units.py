"""Quantities with units: what is read, what is refused, and that writing loses nothing."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gpusim.spec.base import Spec
from gpusim.units import FROM_FILE, UNITS, Bytes, BytesPerS, GiB, Seconds, format_quantity, parse_quantity

KINDS = st.sampled_from(sorted(UNITS))
FINITE = st.floats(allow_nan=False, allow_infinity=False)


class Part(Spec):
    size: Bytes
    bandwidth: BytesPerS = 0.0
    latency: Seconds = 0.0


@given(KINDS, FINITE)
def test_what_is_written_reads_back_exactly(kind, value):
    """Formatting and parsing is the identity on every finite float of every kind."""
    assert parse_quantity(format_quantity(value, kind), kind) == value


@given(KINDS, st.data(), st.integers(1, 999))
def test_every_unit_means_its_factor(kind, data, number):
    """N units are N times the unit's factor, with or without the space between."""
    unit, factor = data.draw(st.sampled_from(sorted(UNITS[kind].items())))
    assert parse_quantity(f"{number} {unit}", kind) == parse_quantity(f"{number}{unit}", kind) == number * factor


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("80 GiB", "bytes", 80 * 2**30),
        ("80 GB", "bytes", 80e9),
        ("3.35 TB/s", "bytes/s", 3.35e12),
        ("1_000 B", "bytes", 1000),
        ("59.9us", "seconds", 59.9e-6),
        ("2 µs", "seconds", 2e-6),
        ("1.98 GHz", "hertz", 1.98e9),
        ("30 /min", "per second", 0.5),
        ("1e-3 s", "seconds", 1e-3),
        ("989 TFLOP/s", "FLOP/s", 989e12),
    ],
)
def test_examples(text, kind, value):
    """Binary and decimal prefixes, rates, exponents and separators read as they are meant."""
    assert parse_quantity(text, kind) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [(80 * GiB, "bytes", "80 GiB"), (80e9, "bytes", "80 GB"), (5.5, "per second", "5.5 /s"), (0.0, "seconds", "0.0 s")],
)
def test_the_largest_exact_unit_is_written(value, kind, text):
    """People get back the unit they would have written."""
    assert format_quantity(value, kind) == text


@pytest.mark.parametrize(
    ("text", "kind", "fragment"),
    [
        ("80", "bytes", "write the unit, e.g. 80 GiB (or B, KiB, MiB, GB)"),
        ("50", "seconds", "write the unit, e.g. 50 ms (or s, us, ns)"),
        ("768", "bytes/s", "write the unit, e.g. 768 GB/s (or MB/s, TB/s)"),
        ("5", "per second", "write the unit, e.g. 5 /s"),
        ("80 Gb", "bytes", "'Gb' is not a unit of bytes; use one of B, kB, MB"),
        ("80 GB", "bytes/s", "'GB' is not a unit of bytes/s"),
        ("fast", "hertz", "'fast' is not a number with a unit; write it like 1.98 GHz"),
        ("nan s", "seconds", "is not a number with a unit"),
        ("", "seconds", "is not a number with a unit"),
        ("1.2.3 s", "seconds", "is not a unit of seconds"),
    ],
)
def test_errors_name_the_way_out(text, kind, fragment):
    """A missing unit, a foreign unit and a missing number are different errors."""
    with pytest.raises(ValueError, match="unit") as error:
        parse_quantity(text, kind)
    assert fragment in str(error.value)


@pytest.mark.parametrize("value", [80, 80.0, True, "80", "1e999 GiB"])
def test_a_file_must_write_units(value):
    """In a file a bare number, a boolean and an infinite size are refused."""
    with pytest.raises(ValidationError):
        Part.model_validate({"size": value}, context=FROM_FILE)


def test_python_may_give_si_floats():
    """Outside files a number is the SI value."""
    assert Part(size=80 * GiB) == Part(size="80 GiB")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, None])
def test_no_quantity_is_nan_infinite_or_boolean(value):
    """Python callers get the same finite numbers only."""
    with pytest.raises(ValidationError):
        Part(size=value)


@given(st.floats(0, 1e18), st.floats(0, 1e18), st.floats(0, 1e6))
def test_a_spec_written_to_a_file_reads_back_equal(size, bandwidth, latency):
    """JSON carries units, and validating it as a file gives the same spec."""
    part = Part(size=size, bandwidth=bandwidth, latency=latency)
    assert Part.model_validate(json.loads(part.model_dump_json()), context=FROM_FILE) == part
