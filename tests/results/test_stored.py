"""A run read back from its directory is the run that was saved."""

import pytest

import gpusim as gs
from gpusim.errors import GpusimError
from gpusim.open_run import open_run

FILES = (
    "summary.json",
    "requests.parquet",
    "segments.parquet",
    "steps.parquet",
    "runs.parquet",
    "use.parquet",
    "scenario.yaml",
)


def saved(path, scenario, **overrides):
    """Simulate an example, save it, and return the result."""
    result = gs.simulate(gs.load(scenario, overrides=overrides))
    result.save(path)
    return result


@pytest.mark.parametrize(
    ("scenario", "overrides"),
    [
        ("chat", {"workload.num_requests": 60}),
        ("chat", {"workload.num_requests": 60, "serving.engine": "vllm", "measure.warmup": "2 s"}),
        ("chat", {"workload.num_requests": 60, "serving.max_model_len": 1500}),
        ("chat", {"workload.num_requests": 60, "serving.engine": "vllm", "serving.jitter": True}),
        ("two-engines", {}),
        ("busy-neighbour", {"workload.num_requests": 5}),
        ("shortage", {"workload.num_requests": 12}),
    ],
)
def test_what_was_saved_comes_back(tmp_path, scenario, overrides):
    """The summary is the same, and saved once more it gives the same bytes."""
    result = saved(tmp_path / "run", scenario, **overrides)
    again = gs.read_result(tmp_path / "run")
    assert again.summary() == result.summary()
    assert again.explain() == result.explain()
    again.save(tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_a_run_of_an_older_version_has_no_use(tmp_path):
    """Without the table that older versions did not write, all else is read."""
    result = saved(tmp_path / "run", "chat", **{"workload.num_requests": 5})
    (tmp_path / "run" / "use.parquet").unlink()
    again = gs.read_result(tmp_path / "run")
    assert again.summary() == result.summary()
    assert again.use.is_empty()


def test_a_run_that_is_not_whole_is_an_error(tmp_path):
    """A missing, a broken and a strange file are each named."""
    saved(tmp_path / "run", "chat", **{"workload.num_requests": 5})
    with pytest.raises(GpusimError, match="name the directory of the run"):
        gs.read_result(tmp_path / "run" / "summary.json")
    table = tmp_path / "run" / "steps.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[:100])
    with pytest.raises(GpusimError, match=r"steps\.parquet: not a table of a run"):
        gs.read_result(tmp_path / "run")
    table.write_bytes((tmp_path / "run" / "requests.parquet").read_bytes())
    with pytest.raises(GpusimError, match="do not fit together"):
        gs.read_result(tmp_path / "run")
    with pytest.raises(GpusimError, match="no results of a run here"):
        gs.read_result(tmp_path)


def test_a_run_is_named_by_its_directory_or_its_scenario(tmp_path):
    """Both give the same result; only a scenario can be changed."""
    few = {"workload.num_requests": 5}
    result = saved(tmp_path / "run", "chat", **few)
    assert open_run(tmp_path / "run").summary() == open_run("chat", few).summary() == result.summary()
    with pytest.raises(GpusimError, match="a saved run cannot be changed"):
        open_run(tmp_path / "run", few)
    with pytest.raises(GpusimError, match="no results of a run here"):
        open_run(tmp_path)
