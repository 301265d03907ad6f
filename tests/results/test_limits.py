"""Limits of ``--fail-if``: how they are written and what they are held against."""

import pytest

from gpusim.errors import GpusimError
from gpusim.results.change import Change
from gpusim.results.limits import Limit, parse_part


def change(metric="itl.p99", a=0.1, b=0.112, interval=(0.098, 0.151)):
    """Return a change by +12 %."""
    return Change(metric, a, b, b / a - 1, True, interval, 0.001, "worse")


@pytest.mark.parametrize(
    ("text", "of", "value"),
    [
        ("itl.p99 > +5 %", "relative change", 0.05),
        ("itl.p99>5%", "relative change", 0.05),
        ("goodput < -3 %", "relative change", -0.03),
        ("ttft.mean > 200 ms", "value", 0.2),
        ("ttft.mean > +20 ms", "change", 0.02),
        ("attainment < 95 %", "value", 0.95),
        ("attainment < -1 %", "relative change", -0.01),
        ("throughput <= 100 tokens/s", "value", 100),
        ("goodput < 3 /s", "value", 3),
        ("preemptions >= 0.5", "value", 0.5),
    ],
)
def test_limits_are_read(text, of, value):
    """Per cents are relative changes, other signed numbers changes, others values; parts may be values in per cent."""
    limit = Limit.parse(text)
    assert (limit.of, limit.value) == (of, pytest.approx(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("itl.p99", "write METRIC > LIMIT"),
        ("itl.p99 > fast", "write METRIC > LIMIT"),
        ("itl.p42 > 5 %", "'itl.p42': unknown metric"),
        ("itl.p99 > 5", "write the unit"),
        ("itl.p99 > 5 GB", "'GB' is not a unit of seconds"),
        ("itl.p99 > 1.2.3 %", "could not convert"),
        ("preemptions > 5 ms", "could not convert"),
    ],
)
def test_what_is_no_limit(text, message):
    """The error says what was written and how to write it."""
    with pytest.raises(GpusimError, match=message) as error:
        Limit.parse(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("text", "broken", "surely"),
    [
        ("itl.p99 > +5 %", True, True),
        ("itl.p99 > +11 %", True, False),
        ("itl.p99 > +13 %", False, False),
        ("itl.p99 < 0 %", False, False),
        ("itl.p99 > +9 ms", True, True),
        ("itl.p99 > 110 ms", True, False),
        ("itl.p99 > 109 ms", True, True),
        ("itl.p99 > 113 ms", False, False),
    ],
)
def test_what_breaks_a_limit(text, broken, surely):
    """The change itself counts, or with ``--surely`` its whole interval."""
    limit = Limit.parse(text)
    assert limit.is_broken(change()) is broken
    assert limit.is_broken(change(), surely=True) is surely


def test_nothing_is_sure_without_an_interval():
    """Without an interval the change counts, but never surely."""
    limit = Limit.parse("itl.p99 > +5 %")
    assert limit.is_broken(change(interval=None))
    assert not limit.is_broken(change(interval=None), surely=True)


def test_change_from_nothing():
    """Where the baseline is 0 there is no relative change, so none can be too large."""
    grown = Change("rejected", 0.0, 0.1, 0.1, False, (0.05, 0.15), 0.0, "worse")
    assert not Limit.parse("rejected > +5 %").is_broken(grown)
    assert Limit.parse("rejected > 5 %").is_broken(grown)
    assert Limit.parse("rejected > 4 %").is_broken(grown, surely=True)


def test_smallest_change_that_matters():
    """It is a per cent, and not negative."""
    assert parse_part(" 1 %") == 0.01
    for wrong in ("1", "-1 %", "x %", "nan %"):
        with pytest.raises(GpusimError, match="write a per cent"):
            parse_part(wrong)
