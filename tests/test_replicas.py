"""`data_parallel_size`: engines alike on GPUs of their own, to which requests go in turn."""

from __future__ import annotations

import pytest

from builders import build_plan, build_simulation, token_ticks
from gpusim.errors import SpecError

ON_FOUR = {"topology": "dgx-a100-80gb", "serving__tensor_parallel_size": 2}
LISTED = [{"name": f"engine{number}", "gpus": [f"gpu{2 * number}", f"gpu{2 * number + 1}"]} for number in range(2)]


def played(**changes):
    simulation = build_simulation(**ON_FOUR, **changes)
    return simulation, simulation.run().summary()


@pytest.mark.parametrize("detail", ["kernel", "step"])
def test_replicas_are_engines_listed_by_hand(detail):
    """Two replicas of TP 2 give the tokens, to the tick, of two engines on the same GPUs that share the workload."""
    alike, of_alike = played(serving__data_parallel_size=2, detail=detail)
    listed, of_listed = played(engines=LISTED, detail=detail)
    assert token_ticks(alike) == token_ticks(listed)
    for name, gpus in (("engine0", ["gpu0", "gpu1"]), ("engine1", ["gpu2", "gpu3"])):
        assert of_alike["engines"][name]["gpus"] == gpus
        assert of_alike["engines"][name]["requests"] == of_listed["engines"][name]["requests"]


def test_requests_go_to_replicas_in_turn():
    """Ten requests on three replicas: four, three, three."""
    _, summary = played(serving__data_parallel_size=3)
    assert [engine["requests"]["finished"] for engine in summary["engines"].values()] == [4, 3, 3]


def test_a_resolved_run_has_the_same_replicas():
    """What `scenario.yaml` holds is one serving with its data_parallel_size, and plans the same engines."""
    plan = build_plan(**ON_FOUR, serving__data_parallel_size=2)
    assert plan.resolved()["serving"]["data_parallel_size"] == 2
    assert "engines" not in plan.resolved() or plan.resolved()["engines"] == []
    assert [engine.name for engine in plan.engines] == ["engine0", "engine1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"serving__data_parallel_size": 5}, "10 GPUs are needed (2 for each of 5 replicas), dgx-a100-80gb has 8"),
        ({"serving__data_parallel_size": 2, "model": "tiny-moe"}, "not yet: data_parallel_size of tiny-moe"),
        (
            {"serving__data_parallel_size": 2, "engines": LISTED},
            "not yet: data_parallel_size of one of several engines",
        ),
    ],
)
def test_what_cannot_be_replicated_is_named(changes, message):
    """Too few GPUs; experts that replicas would share; replicas of listed engines."""
    with pytest.raises(SpecError) as raised:
        build_plan(**ON_FOUR, **changes)
    assert message in str(raised.value)
    assert str(raised.value).count("GPUs are needed") <= 1
