"""A step taken apart: its parts are all of it, and the means at which it is taken are those of its tokens."""

from pathlib import Path

import polars as pl
import pytest
import serving_requests
import step_formula
import step_timing

from gpusim.core.clock import TICKS_PER_S
from gpusim.plan import plan_scenario
from gpusim.runs.layout import Experiment
from gpusim.runs.scenarios import scenario_of
from gpusim.simulation import Simulation
from measured_runs import EXPERIMENT


@pytest.fixture(params=[1, 2], ids=["one GPU", "two GPUs"])
def timed(request, tmp_path):
    """Return a step of 8 sequences and 500 tokens each, and its GPU."""
    system = EXPERIMENT["system"] | {"num_gpus": request.param, "tensor_parallel": request.param}
    experiment = Experiment("one", Path(), EXPERIMENT | {"system": system})
    return step_timing.timed_step(Simulation(plan_scenario(scenario_of(experiment, tmp_path))), 8, 500)


def test_parts_add_up_to_the_step(timed):
    """No kernel is left out or counted twice: the sum is the step's time, but for the clock's rounding."""
    step, _ = timed
    assert sum(step_timing.parts_s(step).values()) == pytest.approx(step.step_ticks[0] / TICKS_PER_S, rel=1e-6)


def test_the_formula_is_near_without_its_constant(timed):
    """Both laws of products and attention are of the same measured kernels: they agree within a tenth, and a third."""
    step, figures = timed
    ours = step_timing.parts_s(step)
    formula = step_formula.formula_s([(count, k) for count, part in step.program.parts for k in part], figures)
    assert ours["products"] == pytest.approx(formula["products"], rel=0.1)
    assert ours["attention"] == pytest.approx(formula["attention"], rel=0.3)
    assert formula["constant"] == 0.82e-3


def test_means_are_over_tokens():
    """Of steps with 1 and 3 sequences 3 of 4 tokens are in the second; a token's context is the prompt and half the output."""
    assert step_timing.mean_batch(pl.DataFrame({"num_decodes": [1, 3, 0, 3]})) == round(19 / 7)
    requests = pl.DataFrame({"prompt_tokens": [100, 300], "output_tokens": [10, 30]})
    assert step_timing.mean_context(requests) == round((10 * 105 + 30 * 315) / 40)
    assert step_timing.longest(requests) == 330


def test_who_waits_and_runs_beside_a_request():
    """One runs from 1 to 5 s; another arrives at 2 s, runs from 4 to 8 s; a third arrives at 6 s and is given up."""
    requests = pl.DataFrame(
        {"arrival_s": [0.0, 2.0, 6.0], "ttft_s": [1.0, 2.0, None], "e2e_s": [5.0, 6.0, None], "ok": [1, 1, 0]}
    )
    waiting, running = serving_requests.beside(requests)
    assert waiting.tolist() == pytest.approx([2 / 4, 2 / 4])
    assert running.tolist() == pytest.approx([5 / 4, 5 / 4])
