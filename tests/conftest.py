"""Options, fixtures and the hypothesis profile of all tests."""

import signal

import pytest
from hypothesis import settings

from gpusim.core.clock import Clock

pytest_plugins = ["pytester"]

# The same examples on every machine and in every run: a red test is red for everybody.
settings.register_profile("gpusim", deadline=None, derandomize=True, max_examples=50, print_blob=True)
settings.load_profile("gpusim")


def pytest_configure():
    """Take Ctrl-C as ever, also where the tests were started in a way that ignores it, as background jobs are."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    """Add the option that refreshes expected output."""
    parser.addoption(
        "--update-golden", action="store_true", help="write what came out into golden files and docs; review the diff"
    )


@pytest.fixture
def update_golden(request):
    """Tell whether expected output is to be refreshed instead of compared with."""
    return request.config.getoption("--update-golden")


@pytest.fixture
def clock():
    """Return a clock at tick 0."""
    return Clock()


@pytest.fixture
def env(clock):
    """Return the SimPy environment of `clock`."""
    return clock.env
