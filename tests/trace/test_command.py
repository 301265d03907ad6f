"""`gpusim trace`: windows, files, mistakes, and Ctrl-C."""

from __future__ import annotations

import gzip
import json
import signal

import numpy as np
import pytest
from typer.testing import CliRunner

from builders import scenario_data
from gpusim.cli import app
from gpusim.errors import SpecError
from gpusim.results.stored import read_result
from gpusim.spec.yaml_files import dump_yaml
from gpusim.trace.window import find_window
from run_builders import uniform_run
from timelines import read_timeline, steps_of_gpu


def gpusim(*arguments, exit_code=0):
    """Run a command in this process; return what it wrote to stdout and to stderr."""
    run = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="gpusim")
    assert run.exit_code == exit_code, run.output
    return run.stdout, run.stderr


@pytest.fixture
def scenario(tmp_path, monkeypatch):
    """Write a small scenario into the current folder; return its path."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.yaml"
    path.write_text(dump_yaml(scenario_data(detail="step")), encoding="utf-8")
    return path


@pytest.fixture
def saved(scenario, tmp_path):
    """Save a run of it; return its folder."""
    gpusim("run", scenario, "--out", tmp_path / "saved", "--json")
    return tmp_path / "saved"


def read(path):
    """Read a file of a timeline back."""
    return read_timeline(gzip.decompress(path.read_bytes()).decode())


def test_a_saved_run_and_its_scenario_give_the_same_timeline(saved, scenario, tmp_path):
    """Both are simulated again; the file is named after the run."""
    out, err = gpusim("trace", saved)
    assert out.startswith("saved.trace.json.gz: 41 steps that start from 0 s to 1 s")
    assert err == "note: without --to: up to 100 steps, or 1 s if that is less\n"
    gpusim("trace", scenario, "-o", "other.json.gz")
    assert read(tmp_path / "saved.trace.json.gz").events == read(tmp_path / "other.json.gz").events


def test_json_says_what_was_written(saved, tmp_path):
    """Bounds, steps, events, size, and whether the steps are those that were saved."""
    out, err = gpusim("trace", saved, "--from", "1 ms", "--to", "2ms", "-o", "t.json.gz", "--json")
    said, timeline = json.loads(out), read(tmp_path / "t.json.gz")
    starts = read_result(saved).record.steps["engine"].starts
    assert not err
    assert (said["from_s"], said["to_s"], said["same_token_times"]) == (0.001, 0.002, True)
    assert said["steps"] == len(timeline.spans["engine", "steps"]) == ((starts >= 1e9) & (starts < 2e9)).sum()
    assert said["events"] == len(timeline.events)
    assert said["size_bytes"] == (tmp_path / "t.json.gz").stat().st_size


def test_a_run_that_comes_out_otherwise_now_is_said(saved):
    """Where the steps of the saved run end elsewhere, by another version say, the timeline comes with a note."""
    path = saved / "scenario.yaml"
    path.write_text(path.read_text().replace("value: 40", "value: 41"))
    _, err = gpusim("trace", saved, "--to", "1s")
    assert "the steps are not where the saved run has them: it was saved by gpusim" in err


def test_beside_copies_the_last_step_is_there_too(tmp_path, monkeypatch):
    """Played steps end nanoseconds from where they do when folded: the timeline has as many, whole ones, and says why."""
    monkeypatch.chdir(tmp_path)
    copies = {"kind": "copy", "from": "gpu0", "to": "gpu1", "size": "7 MiB", "period": "130 us"}
    changes = {"topology": "dgx-a100-80gb", "detail": "step", "workload__num_requests": 2, "background": [copies]}
    (tmp_path / "mine.yaml").write_text(dump_yaml(scenario_data(**changes)), encoding="utf-8")
    out, err = gpusim("trace", "mine.yaml", "--to", "1s", "-o", "t.json.gz", "--json")
    timeline = read(tmp_path / "t.json.gz")
    steps = timeline.spans["engine", "steps"]
    assert len(steps) == json.loads(out)["steps"]
    assert [(step.start, step.end) for step, _ in steps_of_gpu(timeline, "gpu0")] == [(s.start, s.end) for s in steps]
    assert not json.loads(out)["same_token_times"]
    assert "beside copies of background:" in err
    assert timeline.counter("engine", "running requests")[-1] == (steps[-1].end, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "30s", "--to", "31s"], "no step starts between 30 s and 31 s; the steps of this run start between"),
        (["--to", "0 s"], "no step starts before 0 s; the steps of this run start between 0 s and"),
        (["--from", "2 ms", "--to", "1 ms"], "--from 0.002 s --to 0.001 s: the timeline must end after it begins"),
        (["--from", "2"], "--from: write the unit, e.g. 2 ms (or s, us, ns)"),
        (["--to", "-1 s"], "--to -1 s: a run starts at 0 s"),
        (["-o", "nowhere/t.json.gz"], "there is no folder nowhere"),
        (["-o", "."], "is a folder; name a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_end_with_2_and_one_message(saved, tmp_path, arguments, message):
    """Nothing is written."""
    before = sorted(tmp_path.iterdir())
    out, err = gpusim("trace", saved, *arguments, exit_code=2)
    assert not out
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_that_cannot_be_written_is_one_message(saved, tmp_path, monkeypatch):
    """A full disk in the midst of it leaves nothing behind, and what was there before."""
    target = tmp_path / "t.json.gz"
    target.write_text("before")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gpusim.trace.events.EventWriter.arrow", fail)
    _, err = gpusim("trace", saved, "-o", target, exit_code=2)
    assert err == f"error: {target}: cannot be written: No space left on device\n"
    assert target.read_text() == "before"
    assert not list(tmp_path.glob(".*"))


@pytest.fixture
def interrupt():
    """Return what does as Ctrl-C does, also where this process was started with it ignored."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, usual)


def test_ctrl_c_leaves_a_whole_file_of_what_there_was(saved, tmp_path, monkeypatch, interrupt):
    """The timeline ends with the interrupt, and keeps all the rules."""
    monkeypatch.setattr("gpusim.progress.Progress.update", lambda _, done: interrupt() if done == 3 else None)
    _, err = gpusim("trace", saved, "--to", "1s", exit_code=130)
    assert err == "note: interrupted: the timeline ends there\n"
    whole = len(read_result(saved).record.steps["engine"])
    assert 0 < len(read(tmp_path / "saved.trace.json.gz").spans["engine", "steps"]) < whole


def test_ctrl_c_before_the_timeline_leaves_no_file(scenario, tmp_path, monkeypatch, interrupt):
    """While a scenario is simulated for the first time there is nothing to show."""
    monkeypatch.setattr("gpusim.progress.Progress.update", lambda _, done: interrupt() if done == 3 else None)
    gpusim("trace", scenario, exit_code=130)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize(("from_s", "first"), [(None, 0), (0.5, 50), (0.501, 51)])
def test_without_an_end_it_is_a_hundred_steps_or_a_second(from_s, first):
    """Of steps of 10 ms a second has 100; of steps of 1 ms 100 take a tenth of that."""
    window = find_window(uniform_run(20, 200).steps, from_s, None)
    assert window.num_steps == 100
    assert window.last_end == (first + 100) * 10**10
    short = find_window(uniform_run(20, 900, step_ticks=10**9).steps, from_s, None)
    assert short.num_steps == 100


def test_a_run_without_steps_has_no_timeline():
    """It is an error, not an empty file."""
    steps = {name: log.__class__(name) for name, log in uniform_run(1, 1).steps.items()}
    with pytest.raises(SpecError, match="has no steps"):
        find_window(steps, None, None)
    assert not np.any([len(log) for log in steps.values()])
