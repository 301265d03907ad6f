"""Sweeps: which points they have, that all are checked first, and what their results say."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import scenario_data
from gpusim.errors import GpusimError, SpecError
from gpusim.plan import plan_document
from gpusim.results.stored import read_result
from gpusim.spec.document import Document
from gpusim.spec.sweep import folder_names, points
from gpusim.sweeps import SweepResult, check_points, sweep, sweep_document


def document(**changes: Any) -> Document:
    return Document("test.yaml", scenario_data(**changes))


def itl_means(result: SweepResult) -> list[float]:
    return [row.result.itl.mean for row in result]


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_keys_are_crossed_in_order(sizes: Sequence[int]):
    """There is a point for every combination; the last key turns fastest."""
    grid = {f"k{i}": list(range(size)) for i, size in enumerate(sizes)}
    found = [tuple(point.overrides.values()) for point in points(grid)]
    assert found == sorted(set(found))
    assert len(found) == math.prod(sizes)


def test_a_labelled_value_sets_several_keys():
    """The label stands in tables, the keys in the scenario; what has no label shows its content."""
    (one, two) = points({"a": [{"label": "x", "a": 1, "b.c": 2}, {"kind": "poisson", "rate": [1, 2]}]})
    assert (one.labels, one.overrides) == ({"a": "x"}, {"a": 1, "b.c": 2})
    assert two.labels == {"a": "kind: poisson, rate: 1, 2"}
    assert two.overrides == {"a": {"kind": "poisson", "rate": [1, 2]}}


def test_a_list_holds_a_point_an_entry():
    """Keys are paired instead of crossed; a label names the point."""
    (one, two) = points([{"a": 1, "b": 2}, {"label": "x", "a": 3}])
    assert (one.labels, one.overrides) == ({"a": 1, "b": 2}, {"a": 1, "b": 2})
    assert (two.labels, two.overrides) == ({"label": "x"}, {"a": 3})


def test_folders_are_named_by_what_points_set():
    """Names are of the last part of each key and its value, in signs that any system takes, and none comes twice."""
    grid = {"dtype.weights": ["bf16", "BF16"], "workload.arrivals.rate": ["2 /s", "2/s"]}
    assert folder_names(points(grid)) == [
        "weights-bf16_rate-2-s",
        "weights-bf16_rate-2-s-2",
        "weights-BF16_rate-2-s-3",
        "weights-BF16_rate-2-s-4",
    ]
    assert folder_names(points([{"model": "./a b/", "what_if": {"x": "ä" * 200}}])) == ["model-.-a-b_what_if-x"]
    assert len(folder_names(points([{"label": "x" * 300}]))[0]) == 100


@pytest.mark.parametrize(
    "grid",
    [
        {"topology": ["single-gpu", "dgx-h100"]},
        {"model": ["tiny", "llama-3.1-8b"]},
        {"attention": ["mha", "gqa:2", "mqa"]},
        {"serving.tensor_parallel_size": [1, 2, 4]},
        {"topology.links.0.bandwidth": ["1 GB/s", "2 GB/s"]},
        {"model.layers.0.count": [1, 2]},
        {"workload.arrivals": [{"kind": "at_once"}, {"kind": "poisson", "rate": "1000 /s"}]},
    ],
    ids=lambda grid: next(iter(grid)),
)
def test_anything_can_be_swept(grid):
    """Each point gives what the scenario with that value set gives by itself, whatever the order of the points."""
    (key, values) = next(iter(grid.items()))
    base = document(topology="dgx-a100-80gb", serving__max_model_len=1024)
    result = sweep_document(base, grid)
    backwards = sweep_document(base, {key: values[::-1]})
    assert [row.point.overrides[key] for row in result] == values
    assert itl_means(result) == itl_means(backwards)[::-1]
    assert [len(row.result.requests) for row in result] == [10] * len(values)


def test_a_loaded_scenario_is_swept_like_its_file():
    """`gs.sweep` takes what `gs.load` gave, in which every name is written out already."""
    grid = {"attention": ["mha", "mqa"], "topology": ["dgx-h100"]}
    scenario = plan_document(document()).scenario
    assert itl_means(sweep(scenario, grid)) == itl_means(sweep_document(document(), grid))


def test_all_points_are_checked_before_the_first_runs(monkeypatch):
    """A wrong last point costs no simulation; the message names it, and how many more have the same problem."""
    monkeypatch.setattr("gpusim.sweeps.Simulation", None)
    with pytest.raises(SpecError) as caught:
        sweep_document(document(), {"seed": [1, 2], "serving.tensor_parallel_size": [1, 3]})
    assert str(caught.value).startswith(
        "at the point seed = 1, serving.tensor_parallel_size = 3 (and 1 more) of the sweep"
    )


def test_check_counts_the_points():
    """`gpusim check` plans every point of the file's own sweep."""
    assert len(check_points(document(sweep={"seed": [1, 2, 3], "attention": ["mha", "mqa"]}))) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relative_to": {"atention": "mha"}}, "relative_to.atention: is not swept; swept: attention"),
        ({"relative_to": {"attention": "mla"}}, "relative_to.attention: 'mla' is not among the swept values: mha, mqa"),
        (
            {"published": [{"when": {"attention": "gqa"}, "itl": "1 ms", "source": "x"}]},
            "published[0].when.attention: 'gqa' is not among the swept values",
        ),
        ({"sweep": {"attention": []}}, "nothing to sweep: a key has no values"),
        ({"sweep": {}}, "nothing to sweep; add sweep"),
        ({"sweep": {"seed.x": [1]}}, "at the point seed.x = 1 of the sweep"),
    ],
)
def test_a_sweep_that_says_nothing_sensible_is_refused(changes, message):
    """Comparisons with points that do not exist, and sweeps without points, are errors that name the key."""
    with pytest.raises(SpecError) as caught:
        sweep_document(document(**{"sweep": {"attention": ["mha", "mqa"]}, **changes}))
    assert message in str(caught.value)


def test_another_grid_may_leave_out_what_the_file_compares_with():
    """`--over` something else keeps the file's `relative_to` only where it has such points."""
    base = document(sweep={"attention": ["mha", "mqa"]}, relative_to={"attention": "mha"})
    assert sweep_document(base, {"seed": [1]}).relative_to == {}
    assert sweep_document(base, {"attention": ["mqa", "mha"]}).relative_to == {"attention": "mha"}


@pytest.mark.parametrize("grid", [{"seed": 3}, [3], {"seed": "12"}])
def test_a_grid_of_the_wrong_form_is_refused(grid):
    """Python callers get an error of ours as well."""
    with pytest.raises(SpecError, match="a sweep is a mapping of keys to lists of values, or a list of mappings"):
        sweep_document(document(), grid)


def test_every_point_can_be_kept(tmp_path):
    """The run of a point is in the folder that its row names, and is what the point gave."""
    result = sweep(plan_document(document()).scenario, {"attention": ["mha", "mqa"]}, out=tmp_path / "points")
    assert [row.folder.name for row in result] == ["attention-mha", "attention-mqa"]
    assert [read_result(row.folder).itl.mean for row in result] == itl_means(result)


def test_what_is_in_the_way_is_seen_before_the_first_point_runs(tmp_path, monkeypatch):
    """Nobody's files are replaced, and nobody waits to be told."""
    monkeypatch.setattr("gpusim.sweeps.Simulation", None)
    (tmp_path / "seed-2").mkdir()
    (tmp_path / "seed-2" / "thesis.txt").touch()
    with pytest.raises(GpusimError, match=r"holds thesis\.txt"):
        sweep_document(document(), {"seed": [1, 2]}, out=tmp_path)


def test_a_point_that_cannot_be_saved_is_still_in_the_table(tmp_path, monkeypatch):
    """A full disk costs the files, not the figures."""

    def full(*_args, **_known):
        raise GpusimError("no room")

    monkeypatch.setattr("gpusim.results.result.write_results", full)
    result = sweep_document(document(), {"seed": [1, 2]}, out=tmp_path)
    assert len(result) == 2
    assert [message for _, message in result.failures] == ["no room"] * 2
