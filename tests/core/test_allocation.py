"""Collections of objects during a run."""

import gc

import pytest

from builders import build_simulation
from gpusim.core.allocation import rare_collections


def test_thresholds_come_back():
    """Within they are higher, after it as before, also after an error."""
    before = gc.get_threshold()

    def fail():
        with rare_collections():
            assert gc.get_threshold()[0] > before[0]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert gc.get_threshold() == before


def test_a_run_leaves_them_as_they_were():
    """Whoever calls gpusim from a program of their own keeps their thresholds."""
    before = gc.get_threshold()
    build_simulation().run()
    assert gc.get_threshold() == before
