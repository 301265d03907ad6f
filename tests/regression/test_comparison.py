"""What counts as moved, what is blamed for it, and what is kept of a run to tell."""

import json
import math
from dataclasses import replace

import pytest

import gpusim as gs
from gpusim.errors import GpusimError, SpecError
from gpusim.regression.baseline import Baseline, read_baseline
from gpusim.regression.blame import parts_by_change
from gpusim.regression.comparison import Tolerance, moves
from gpusim.regression.facts import changes, facts
from gpusim.regression.message import describe

TINY = {"model": "tiny", "serving.max_model_len": 2048, "workload.num_requests": 8, "workload.arrivals.rate": "500 /s"}


def simulated(**overrides):
    """Return the result of `chat` with the tiny model."""
    changes = {name.replace("__", "."): value for name, value in overrides.items()}
    return gs.simulate(gs.load("chat", overrides=TINY | changes))


@pytest.fixture(scope="module")
def result():
    """Return a small run."""
    return simulated()


@pytest.fixture(scope="module")
def baseline(result):
    """Return its baseline."""
    return Baseline.of(result)


def moved(baseline, factor, *names):
    """Return *baseline* with some latencies multiplied."""
    latencies = {name: value * (factor if name in names else 1) for name, value in baseline.latency_s.items()}
    return replace(baseline, latency_s=latencies)


def test_a_baseline_is_read_as_it_was_written(baseline, tmp_path):
    """The file holds all of it, sorted, and writing what was read changes no byte."""
    path = tmp_path / "new folder" / "baseline.json"
    baseline.write(path)
    again = read_baseline(path)
    assert again == baseline
    assert again.text() == path.read_text(encoding="utf-8")
    keys = list(json.loads(path.read_text(encoding="utf-8")))
    assert keys == sorted(keys)
    assert len(path.read_bytes()) < 4000


def test_what_is_kept_adds_up(result, baseline):
    """Where gaps and first tokens went adds up to their means, in the digits that are kept."""
    assert sum(baseline.spent_s["itl"].values()) == pytest.approx(result.itl.mean, rel=1e-5)
    assert sum(baseline.spent_s["ttft"].values()) == pytest.approx(result.ttft.mean, rel=1e-5)
    assert sum(baseline.spent_s["itl.slow"].values()) >= result.itl.p99 * (1 - 1e-5)


def test_requests_of_one_token_have_no_gaps(tmp_path):
    """A baseline without gaps is written, read and kept to."""
    now = Baseline.of(simulated(workload__output_tokens={"kind": "fixed", "value": 1}))
    now.write(tmp_path / "b.json")
    before = read_baseline(tmp_path / "b.json")
    assert before.latency_s["itl.p99"] is None
    assert not moves(before, now, Tolerance())


@pytest.mark.parametrize("factor", [1.03, 0.97])
def test_both_sides_of_the_tolerance_count(baseline, factor):
    """What got better moves the baseline as well; what stays within the tolerance does not."""
    now = moved(baseline, factor, "itl.p99")
    (move,) = moves(baseline, now, Tolerance(rtol=0.02))
    assert move.name == "itl.p99"
    assert move.is_better is (factor < 1)
    assert move.ratio == pytest.approx(factor - 1)
    assert not moves(baseline, now, Tolerance(rtol=0.04))
    assert not moves(baseline, now, Tolerance(rtol=0.0, atol_s=1.0))


def test_the_nearest_tolerance_holds(baseline):
    """A metric's own goes before its latency's, which goes before that of all; infinity leaves a metric out."""
    now = moved(baseline, 1.1, "itl.p99", "itl.mean", "ttft.mean")
    tolerance = Tolerance(rtol=0.2, rtol_of={"itl": 0.01, "itl.mean": 0.5})
    assert [move.name for move in moves(baseline, now, tolerance)] == ["itl.p99"]
    assert not moves(baseline, now, Tolerance(rtol_of={"itl": math.inf, "ttft.mean": math.inf}))


def test_a_metric_without_a_number_moved(baseline):
    """Latencies that nobody had before, or has now, are told and not skipped."""
    now = replace(baseline, latency_s={**baseline.latency_s, "itl.p99": None})
    (move,) = moves(baseline, now, Tolerance())
    assert (move.ratio, move.is_better) == (None, None)
    assert "–" in describe("b.json", baseline, now, [move], "pytest")
    assert not moves(now, now, Tolerance())


@pytest.mark.parametrize(
    ("tolerance", "part"),
    [
        (Tolerance(rtol_of={"itl.p98": 0.1}), 'did you mean "itl.p9'),
        (Tolerance(rtol=-0.1), "rtol must be 0 or more"),
        (Tolerance(rtol_of={"itl": math.nan}), "rtol_of 'itl' must be 0 or more"),
        (Tolerance(atol_s=-1.0), "atol must be 0 s or more"),
    ],
)
def test_wrong_tolerances_are_refused(baseline, tolerance, part):
    """A misspelt metric does not pass as one that is left as it is."""
    with pytest.raises(SpecError, match=part):
        tolerance.check(baseline)


def test_slower_memory_is_blamed_on_what_is_read():
    """An H100 is an H200 with slower memory: reading weights is to blame, and the message names the topology."""
    fast, slow = (
        gs.simulate(gs.load("chat", overrides={"workload.num_requests": 3, "topology": topology}))
        for topology in ("h200-sxm", "h100-sxm")
    )
    before, now = Baseline.of(fast), Baseline.of(slow)
    text = describe("b.json", before, now, moves(before, now, Tolerance()), "pytest --gpusim-update test.py::test")
    assert parts_by_change(before.spent_s["itl"], now.spent_s["itl"])[0][0] == "weights"
    assert "a gap between tokens, weights to blame:\n    weights  " in text
    assert "    topology: h200-sxm #" in text
    assert "    topology.gpus: 1 × h200-sxm -> 1 × h100-sxm\n" in text
    assert "    topology.gpus.memory: HBM3e, 141 GiB, 4.8 TB/s -> HBM3, 80 GiB, 3.35 TB/s\n" in text
    assert text.endswith("\n    pytest --gpusim-update test.py::test")
    assert "a gap between tokens, mostly weights:\n    weights  " in describe(
        "b.json", now, before, moves(now, before, Tolerance()), ""
    )


def test_a_baseline_from_before_machines_were_put_in_words_has_not_changed(baseline):
    """What it does not say of its machine is no change of the scenario, and what did change is alone."""
    old = replace(
        baseline,
        scenario={path: fact for path, fact in baseline.scenario.items() if not path.startswith("topology.")},
    )
    now = moved(baseline, 1.5, "e2e.mean")
    assert old.scenario != baseline.scenario
    assert changes(old.scenario, now.scenario) == changes(now.scenario, old.scenario) == []
    assert "the scenario is the same" in describe("b.json", old, now, moves(old, now, Tolerance()), "pytest")
    other = replace(now, scenario=now.scenario | {"seed": 7})
    assert [path for path, *_ in changes(old.scenario, other.scenario)] == ["seed"]


def test_waiting_requests_are_named_where_steps_are_not_to_blame(baseline):
    """Fewer sequences at a time let requests queue; the message says so and names the setting with both values."""
    now = Baseline.of(simulated(serving__max_num_seqs=1))
    text = describe("b.json", baseline, now, moves(baseline, now, Tolerance()), "pytest")
    assert "a first token, queue to blame:\n    queue  " in text
    assert "serving.max_num_seqs: 128 -> 1" in text
    assert changes(baseline.scenario, now.scenario) == [("serving.max_num_seqs", 128, 1)]


def test_the_same_scenario_under_another_version(baseline):
    """Without a changed setting the version is what is left to name."""
    now = replace(moved(baseline, 1.5, "e2e.max", "e2e.mean"), gpusim="9.9")
    text = describe("b.json", baseline, now, moves(baseline, now, Tolerance()), "pytest")
    assert text.startswith("1 metric moved from the baseline b.json\n")
    assert "the scenario is the same" in text
    assert "gpusim 0" in text
    assert "to blame" not in text


def test_facts_name_long_parts_and_tell_them_apart():
    """Machine, model, tables and lists are a digest each; engines are told apart by name."""
    scenario = gs.load("two-engines")
    found = facts(scenario.model_dump(mode="json"))
    assert all(isinstance(value, str | int | float | bool) for value in found.values())
    assert isinstance(found["topology"], str)
    assert [found[f"engines.{name}.gpus"] for name in ("left", "right")] == ["gpu0, gpu1", "gpu2, gpu3"]
    assert any(path.startswith("engines.") and path.endswith("max_num_seqs") for path in found)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "not a baseline"),
        ("[]", "no schema number"),
        ('{"schema": 2}', "schema 2 is newer"),
        ('{"schema": 1}', "missing 7 required"),
    ],
)
def test_what_is_no_baseline_is_refused(tmp_path, text, part):
    """A broken file is named, with the way out."""
    path = tmp_path / "b.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(GpusimError, match=part):
        read_baseline(path)


def test_values_that_are_no_numbers_are_refused(baseline, tmp_path):
    """A baseline edited by hand does not fail inside the comparison."""
    path = tmp_path / "b.json"
    path.write_text(baseline.text().replace(f'"finished": {baseline.requests["finished"]}', '"finished": "8"'))
    with pytest.raises(GpusimError, match="requests must hold numbers"):
        read_baseline(path)
