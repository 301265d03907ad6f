"""The line of the busiest resources."""

import pytest

from gpusim.report.utilisation import busiest

PCIE = {f"gpu{gpu}->pcie{gpu // 2}:pcie": 0.004 for gpu in range(4)}


@pytest.mark.parametrize(
    ("utilisation", "line"),
    [
        ({"gpu0.compute": 0.9271, "gpu0.memory": 0.586, "gpu0->cpu0:pcie": 0.0}, "gpu0.compute 92.7 %, gpu0.memory 58.6 %"),
        ({f"gpu{gpu}.compute": 0.71 for gpu in range(4)}, "gpu0-3.compute 71.0 %"),
        ({"gpu0.compute": 0.71, "gpu1.compute": 0.705, "gpu3.compute": 0.2}, "gpu0-1.compute 70.5 to 71.0 %, gpu3.compute 20.0 %"),
        ({f"gpu{gpu}.memory": 0.5 for gpu in (0, 1, 2, 6)}, "gpu0-2,6.memory 50.0 %"),
        (PCIE, "gpu0-3->pcie0-1:pcie 0.4 %"),
        ({"a10.memory": 0.5, "b10.memory": 0.5}, "a10.memory 50.0 %, b10.memory 50.0 %"),
    ],
)  # fmt: skip
def test_like_resources_are_one(utilisation, line):
    """Same name but for numbers, and as busy within a point; what did nothing is not listed."""
    assert busiest(utilisation) == f"busiest: {line}"


def test_idle_machines_have_no_line():
    """Nothing to say, nothing said."""
    assert not busiest({})
    assert not busiest({"gpu0.compute": 0.0, "gpu0.memory": 0.0004})


def test_the_busiest_of_each_kind_is_there():
    """A link that is hardly used stands behind any number of processors, for with tensor parallelism it is asked for."""
    many = {f"gpu{gpu}.compute": 0.9 - gpu / 10 for gpu in range(8)} | {f"gpu{gpu}.memory": 0.4 for gpu in range(8)}
    line = busiest(many | PCIE)
    assert "gpu0-7.memory 40.0 %" in line
    assert line.endswith(", gpu0-3->pcie0-1:pcie 0.4 % (and 2 more)")
