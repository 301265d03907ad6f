"""The logs as tables."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from gpusim.core.clock import seconds
from gpusim.hardware.bandwidth_use import BandwidthUse
from gpusim.results import tables
from gpusim.results.metrics import measure
from gpusim.results.request_log import RequestLog
from gpusim.results.step_log import StepLog
from gpusim.results.tables import all_tables, requests_table, runs_table, segments_table, steps_table
from gpusim.runtime.attribution import CATEGORIES
from gpusim.spec.scenario import MeasureSpec
from run_builders import add_request, expanded_runs, uniform_run

USE = BandwidthUse(np.array([0, 4]), {"HBM": np.array([0.5])})


@settings(max_examples=25, deadline=None)
@given(run=expanded_runs())
def test_the_tables_give_every_token_back(run):
    """Segments joined with steps, and nothing else, are the tokens of every request."""
    ends = {(r["engine"], r["step"]): r["end_ps"] for r in steps_table(run.steps).iter_rows(named=True)}
    tokens = [[] for _ in run.tokens]
    for row in segments_table(run.requests).iter_rows(named=True):
        steps = range(row["first_step"], row["last_step"] + 1)
        tokens[row["request"]] += [ends[row["engine"], step] for step in steps]
    assert tokens == run.tokens


@settings(max_examples=25, deadline=None)
@given(run=expanded_runs())
def test_request_latencies_are_those_of_the_metrics(run):
    """The columns hold the observations the statistics are of."""
    table, metrics = requests_table(run.requests, run.steps), measure(run.requests, run.steps)
    assert table["ttft_s"].max() == metrics.ttft.max
    assert table["e2e_s"].max() == metrics.e2e.max
    assert table["tpot_s"].drop_nulls().len() == metrics.tpot.count
    assert table["last_token_s"].to_list() == [seconds(ticks[-1]) for ticks in run.tokens]


def test_what_never_happened_is_null():
    """A rejected request has a reason and no times; one of a single token no TPOT."""
    run = uniform_run(2, 1)
    add_request(run.requests, 2, [], status="rejected", scheduled=None, reason="too long", output_tokens=5)
    table = requests_table(run.requests, run.steps)
    assert table["reason"].to_list() == [None, None, "too long"]
    assert table["status"].to_list() == ["finished", "finished", "rejected"]
    for column in ("scheduled_s", "queue_s", "ttft_s", "e2e_s", "first_token_ps", "last_token_s"):
        assert table[column].null_count() == 1
    assert table["tpot_s"].null_count() == 3


def test_measured_requests_are_marked():
    """Warm-up and cool-down leave their mark in the table."""
    run = uniform_run(4, 2, step_ticks=10**12)
    table = requests_table(run.requests, run.steps, MeasureSpec(warmup=1.0, cooldown=1.0))
    assert table["measured"].to_list() == [False, True, True, False]


@settings(max_examples=25, deadline=None)
@given(run=expanded_runs(), piece=st.integers(1, 20))
def test_a_table_in_pieces_is_the_whole_table(run, piece):
    """However many rows a piece has, there is one at least, none is empty beside others, and together they are all."""
    whole = {name: pl.concat(list(pieces)) for name, pieces in all_tables(run.requests, run.steps, use=USE).items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "PIECE", piece)
        for name, pieces in all_tables(run.requests, run.steps, use=USE).items():
            made = list(pieces)
            assert all(part.height for part in made)
            assert_frame_equal(pl.concat(made), whole[name])
            longest = max(log.run_lengths.max() for log in run.steps.values()) if name == "steps" else 0
            assert max(part.height for part in made) <= piece + longest


def test_a_run_without_steps_has_empty_tables():
    """An engine that never ran, and no request: every table has its columns and no row."""
    made = all_tables(RequestLog(["idle"]), {"idle": StepLog("idle")})
    widths = {name: pl.concat(list(pieces)).shape for name, pieces in made.items()}
    assert widths == {"requests": (0, 22), "segments": (0, 4), "steps": (0, 9), "runs": (0, 15), "use": (0, 4)}


@settings(max_examples=25, deadline=None)
@given(run=expanded_runs())
def test_runs_and_steps_agree(run):
    """A run ends with its last step and takes what its categories add up to."""
    steps, runs = steps_table(run.steps), runs_table(run.steps)
    by_run = steps.group_by("engine", "run", maintain_order=True)
    assert by_run.last()["end_ps"].to_list() == runs["end_ps"].to_list()
    assert by_run.first()["start_ps"].to_list() == runs["start_ps"].to_list()
    assert by_run.len()["len"].to_list() == runs["num_steps"].to_list()
    spent_s = runs.select(f"{name}_s" for name in CATEGORIES).sum_horizontal()
    np.testing.assert_allclose(spent_s, (runs["end_ps"] - runs["start_ps"]) / 1e12, rtol=1e-14)
