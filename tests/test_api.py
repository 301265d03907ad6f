"""The public face: what a script that says `import gpusim as gs` can rely on."""

import pickle
from pathlib import Path

import polars as pl
import pytest

import gpusim as gs
from builders import scenario_data
from gpusim.spec.yaml_files import dump_yaml


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Write a small scenario; return its path."""
    path = tmp_path_factory.mktemp("api") / "mine.yaml"
    path.write_text(dump_yaml(scenario_data(name="mine")), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def result(path):
    """Run it."""
    return gs.simulate(gs.load(path))


def test_everything_public_exists():
    """`__all__` is what there is; the errors are one tree."""
    assert all(getattr(gs, name) is not None for name in gs.__all__)
    errors = (gs.SpecError, gs.TopologyError, gs.CapacityError, gs.SimulationError)
    assert all(issubclass(error, gs.GpusimError) for error in errors)


def test_latencies_are_attributes(result):
    """Each latency has its statistics, in seconds, and they are those of the summary."""
    summary = result.summary()
    for name in ("ttft", "itl", "tpot", "e2e"):
        assert 0 < getattr(result, name).p50 <= getattr(result, name).p99 <= getattr(result, name).max
        assert summary[f"{name}_s"]["p99"] == getattr(result, name).p99


def test_requests_and_steps_are_polars_tables(result):
    """One row a request, one a step."""
    assert isinstance(result.requests, pl.DataFrame)
    assert len(result.requests) == 10
    assert len(result.steps) == result.summary()["attribution"]["num_steps"]


def test_explain_adds_up_to_the_step_time(result):
    """Where the time went is all of the time."""
    told = result.explain()
    assert sum(told["seconds"].values()) == pytest.approx(told["step_time_s"], rel=1e-9)
    assert sum(told["share"].values()) == pytest.approx(1, rel=1e-9)


def test_a_result_survives_pickling(result):
    """Results travel between processes whole."""
    copied = pickle.loads(pickle.dumps(result))  # noqa: S301 - our own bytes
    assert copied.summary() == result.summary()
    assert copied.requests.equals(result.requests)


def test_results_are_frozen(result):
    """Nobody changes a result by accident."""
    with pytest.raises(AttributeError):
        result.record = None


def test_load_takes_names_paths_and_overrides(path):
    """A scenario comes from a name, a path as text or `Path`, with keys set on the way."""
    assert gs.load("chat").name == "Chat service"
    assert gs.load(str(path)) == gs.load(path)
    assert gs.load(path, overrides={"serving.block_size": 32}).serving.block_size == 32


def test_scenarios_are_changed_by_copy(path):
    """A loaded scenario is frozen; a changed copy runs."""
    scenario = gs.load(path)
    with pytest.raises(ValueError, match="frozen"):
        scenario.seed = 3
    changed = scenario.model_copy(update={"seed": 3, "efficiency": "ideal"})
    assert gs.simulate(changed).summary()["seed"] == 3


def test_a_scenario_made_in_python_is_checked_when_it_runs(path):
    """What no file was read for is refused in the same words, without lines."""
    scenario = gs.load(path)
    serving = scenario.serving.model_copy(update={"tensor_parallel_size": 3})
    with pytest.raises(gs.SpecError, match=r"mine:\n  serving\.tensor_parallel_size: 3 does not divide"):
        gs.simulate(scenario.model_copy(update={"serving": serving}))


def test_sweep_gives_a_result_for_each_point(path):
    """Rows come in the order of the points, each with a result of its own."""
    swept = gs.sweep(path, {"attention": ["mha", "mqa"]})
    assert [row.point.labels["attention"] for row in swept] == ["mha", "mqa"]
    assert all(isinstance(row.result, gs.Result) for row in swept)
    assert pickle.loads(pickle.dumps(swept)).keys == ("attention",)  # noqa: S301 - our own bytes


def test_saved_results_are_whole(result, tmp_path):
    """`save` writes all files of a run, `to_json` the summary alone."""
    result.save(tmp_path / "run")
    result.to_json(tmp_path / "summary.json")
    assert (tmp_path / "run" / "summary.json").read_bytes() == Path(tmp_path / "summary.json").read_bytes()


def test_unknown_names():
    """A slip in a name is told as any module tells it."""
    with pytest.raises(AttributeError, match="no attribute 'comparre'"):
        gs.comparre  # noqa: B018
