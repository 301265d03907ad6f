"""`gpusim report`: what it writes, and what it refuses."""

import json

import pytest
from typer.testing import CliRunner

from gpusim.cli import app
from gpusim.open_run import open_run


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the directories of two short runs."""
    folder = tmp_path_factory.mktemp("runs")
    for name, most in (("wide", 128), ("narrow", 4)):
        open_run("chat", {"workload.num_requests": 10, "serving.max_num_seqs": most}).save(folder / name)
    return [str(folder / "wide"), str(folder / "narrow")]


def test_json_says_what_was_written(saved, tmp_path):
    """Every file with its size, and the verdicts of the page."""
    page, folder = tmp_path / "page.html", tmp_path / "figures"
    run = CliRunner().invoke(app, ["report", *saved, "-o", str(page), "--svg", str(folder), "--json"])
    assert run.exit_code == 0, run.output
    said = json.loads(run.stdout)
    assert {entry["path"]: entry["size_bytes"] for entry in said["files"]} == {
        str(path): path.stat().st_size for path in (page, *folder.iterdir())
    }
    (versus,) = said["comparison"]["runs"]
    assert (said["comparison"]["baseline"], versus["name"]) == ("wide", "narrow")
    assert versus["metrics"]["ttft.mean"]["verdict"] == "worse here"


def test_a_single_run_has_no_verdicts(saved, tmp_path):
    """There is nothing to compare it with."""
    run = CliRunner().invoke(app, ["report", saved[0], "-o", str(tmp_path / "page.html"), "--json"])
    assert json.loads(run.stdout)["comparison"] is None


def test_a_change_is_a_second_run(tmp_path):
    """`--with` sets keys in a second run of the first scenario, which is called after them."""
    keys = ["--set", "workload.num_requests=4", "--with", "serving.max_num_seqs=2"]
    run = CliRunner().invoke(app, ["report", "chat", *keys, "-o", str(tmp_path / "page.html"), "--json"])
    (versus,) = json.loads(run.stdout)["comparison"]["runs"]
    assert (versus["name"], versus["requests"]) == ("max_num_seqs=2", [4, 4])
    assert versus["differences"] == [{"key": "serving.max_num_seqs", "a": 128, "b": 2, "others": 0}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chat"] * 7, "7 runs are too many for one page"),
        (["chat", "-o", "nowhere/page.html"], "there is no folder nowhere"),
        (["chat", "--png", "taken"], "taken: no folder can be made there"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(arguments, message, tmp_path, monkeypatch):
    """One error, at once, and no file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    run = CliRunner().invoke(app, ["report", *arguments])
    assert run.exit_code == 2
    assert " ".join(run.stderr.split()).count(message) == 1
    assert "Traceback" not in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
