"""Files of a run."""

import json
import os
import signal

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from gpusim.errors import GpusimError
from gpusim.results import store, tables
from gpusim.results.store import OWN, read_summary, write_results
from gpusim.results.summary import build_summary
from gpusim.results.tables import all_tables
from run_builders import record, uniform_run


def write(directory, num_requests=4, seed=7):
    run = uniform_run(num_requests, 3)
    summary = build_summary(record(run.requests, run.steps, seed=seed))
    write_results(directory, summary=summary, tables=all_tables(run.requests, run.steps), scenario_yaml="schema: 1\n")
    return summary


def contents(directory):
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_all_files_are_there_and_read_back(tmp_path):
    """A run leaves six files; summary and tables come back as written, and no temporary stays."""
    summary = write(tmp_path / "a" / "out")
    assert set(contents(tmp_path / "a" / "out")) == OWN
    assert read_summary(tmp_path / "a" / "out") == read_summary(tmp_path / "a" / "out" / "summary.json") == summary
    assert pl.read_parquet(tmp_path / "a" / "out" / "steps.parquet").height == 6
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]


def test_a_table_of_many_pieces_is_one_file(tmp_path, monkeypatch):
    """Pieces and row groups smaller than the table change nothing in what is read back."""
    write(tmp_path / "whole", num_requests=50)
    monkeypatch.setattr(tables, "PIECE", 7)
    monkeypatch.setattr(store, "ROW_GROUP", 9)
    write(tmp_path / "pieces", num_requests=50)
    for stem in store.TABLES:
        pieces = pl.read_parquet(tmp_path / "pieces" / f"{stem}.parquet")
        assert_frame_equal(pieces, pl.read_parquet(tmp_path / "whole" / f"{stem}.parquet"))


def test_the_same_run_gives_the_same_bytes(tmp_path):
    """Every file of two equal runs is equal, byte for byte."""
    write(tmp_path / "one")
    write(tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_an_earlier_run_is_replaced(tmp_path):
    """Results are overwritten as a whole; nothing of the old run is left."""
    write(tmp_path / "out", seed=1)
    write(tmp_path / "out", seed=2)
    assert read_summary(tmp_path / "out")["seed"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_directory_is_used(tmp_path):
    """A directory made beforehand is fine."""
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    assert set(contents(tmp_path / "out")) == OWN


@pytest.mark.parametrize("name", ["notes.txt", "summary.json", "steps.parquet"])
def test_what_is_not_a_run_is_never_replaced(tmp_path, name):
    """A directory with other content, even under one of our names, is refused and left alone."""
    (tmp_path / name).write_text("{}")
    with pytest.raises(GpusimError, match=name):
        write(tmp_path)
    assert contents(tmp_path) == {name: b"{}"}


def test_notes_beside_a_run_are_kept(tmp_path):
    """A file the user put beside the results stops the run from being replaced."""
    write(tmp_path / "out", seed=1)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(GpusimError, match=r"notes\.txt"):
        write(tmp_path / "out", seed=2)
    assert read_summary(tmp_path / "out")["seed"] == 1


def test_a_failure_leaves_the_earlier_run(tmp_path):
    """If a table cannot be written, the old results stay and nothing half-written does."""
    write(tmp_path / "out", seed=1)
    summary = read_summary(tmp_path / "out") | {"seed": 2}

    def broken():
        yield pl.DataFrame({"a": [1]})
        raise OSError(28, "No space left on device")

    with pytest.raises(GpusimError, match="No space left"):
        write_results(tmp_path / "out", summary=summary, tables={"steps": broken()}, scenario_yaml="")
    assert read_summary(tmp_path / "out")["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_interrupt_leaves_the_earlier_run(tmp_path):
    """Ctrl-C in the middle of a table ends the writing, once, and clears up."""
    write(tmp_path / "out", seed=1)

    def interrupted():
        yield pl.DataFrame({"a": [1]})
        os.kill(os.getpid(), signal.SIGINT)
        yield pl.DataFrame({"a": [2]})

    with pytest.raises(KeyboardInterrupt):
        write_results(tmp_path / "out", summary={}, tables={"steps": interrupted()}, scenario_yaml="")
    assert read_summary(tmp_path / "out")["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("text", [None, "not json", "[]", "{}", '{"schema": 99, "scenario_hash": ""}'])
def test_what_is_not_a_summary_is_one_clear_error(tmp_path, text):
    """Missing, broken, foreign and newer summaries are refused by name."""
    if text is not None:
        (tmp_path / "summary.json").write_text(text)
    with pytest.raises(GpusimError, match=str(tmp_path)):
        read_summary(tmp_path)


def test_floats_are_written_in_full(tmp_path):
    """Reading a float back gives the same float."""
    summary = write(tmp_path / "out")
    text = (tmp_path / "out" / "summary.json").read_text()
    assert json.loads(text)["throughput"] == summary["throughput"]
    assert repr(summary["throughput"]["output_tokens_per_s"]) in text
