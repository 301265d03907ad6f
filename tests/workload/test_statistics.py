"""What is said of a workload, against the whole of it in memory."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.spec.workload import WorkloadSpec
from gpusim.workload.shapes import RequestShape, in_blocks
from gpusim.workload.statistics import CACHE_BLOCK, LEVELS, describe
from gpusim.workload.stream import request_blocks
from helpers import shared_data


def described(shapes):
    return describe(in_blocks(shapes))


def shape(index=0, arrival_s=0.0, prompt=10, output=1, content=(), after=None):
    return RequestShape(index, arrival_s, prompt, output, content, after=after)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=2500))
def test_figures_are_those_of_the_whole(rows):
    """Totals, means, order statistics, gaps and peaks are what numpy says of all requests at once."""
    rows.sort(key=lambda row: row[0])
    found = described(shape(index, *row) for index, row in enumerate(rows))
    times, prompts, outputs = (np.array(column) for column in zip(*rows, strict=True))
    for name, values in (("prompt_tokens", prompts), ("output_tokens", outputs)):
        stated = found[name]
        assert stated["total"] == values.sum()
        assert stated["mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert stated["max"] == values.max()
        levels = np.quantile(values, LEVELS, method="inverted_cdf").tolist()
        assert [stated[f"p{level * 100:.0f}"] for level in LEVELS] == levels
    assert (found["requests"], found["first_arrival_s"], found["last_arrival_s"]) == (len(rows), times[0], times[-1])
    for key, width in (("peak_1_s_per_s", 1), ("peak_60_s_per_s", 60)):
        counts = np.bincount((times / width).astype(int))
        assert found[key] == (counts.max() / width if times[-1] >= width else None)
    if len(rows) > 2 and times[-1] > times[0]:
        gaps = np.diff(times)
        assert found["rate_per_s"] == pytest.approx(1 / gaps.mean(), rel=1e-9)
        assert found["gap_cv"] == pytest.approx(gaps.std() / gaps.mean(), rel=1e-6)
    counts = np.bincount((times / 10).astype(int), minlength=1)[:-1]
    if len(counts) >= 2 and counts.sum():
        assert found["count_cv_10_s"] == pytest.approx(counts.std() / counts.mean(), abs=1e-9)


SPANS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60)), max_size=3).map(tuple)
REQUESTS = st.lists(st.tuples(st.integers(1, 120), st.integers(1, 60), SPANS), min_size=1, max_size=14)


@settings(max_examples=200)
@given(REQUESTS)
def test_what_repeats_is_what_an_endless_cache_would_hold(rows):
    """Brute force: every block of 16 tokens of every request so far, named by all tokens up to its end."""
    cache, repeated = set(), 0
    for index, (prompt, output, spans) in enumerate(rows):
        known = [(name, position) for name, size in spans for position in range(size)][: prompt + output]
        text = known + [(-1 - index, position) for position in range(prompt + output - len(known))]
        hits = 0
        # The last token of a prompt is computed, and the last of an answer never is.
        while (hits + 1) * CACHE_BLOCK <= prompt - 1 and tuple(text[: (hits + 1) * CACHE_BLOCK]) in cache:
            hits += 1
        repeated += hits * CACHE_BLOCK
        cache |= {tuple(text[:end]) for end in range(CACHE_BLOCK, prompt + output, CACHE_BLOCK)}
    shapes = [shape(index, 0.0, *row) for index, row in enumerate(rows)]
    total = sum(prompt for prompt, *_ in rows)
    assert described(shapes)["repeated_prompt_share"] * total == pytest.approx(repeated, abs=1e-6)


def test_sessions_are_counted_with_their_turns():
    """Two sessions, of three turns and of one; only their starts are arrivals."""
    found = described([shape(0, 1.0), shape(1, None, after=0), shape(2, None, after=1), shape(3, 3.0)])
    assert (found["sessions"], found["turns_mean"], found["turns_max"]) == (2, 2.0, 3)
    assert (found["first_arrival_s"], found["rate_per_s"]) == (1.0, 0.5)


def test_a_closed_loop_states_no_arrivals():
    """What nobody knows ahead is not given."""
    found = described([shape(0, None), shape(1, None)])
    assert found["rate_per_s"] is found["first_arrival_s"] is found["gap_cv"] is None


def test_the_conversation_trace():
    """The figures that our documentation gives for it, from the published file."""
    spec = WorkloadSpec(trace=str(shared_data("traces/azure_llm_2023_conv.csv")))
    found = describe(request_blocks(spec, seed=0, folder=Path()))
    assert found["requests"] == 19_366
    assert found["rate_per_s"] == pytest.approx(5.53, abs=0.005)
    assert found["gap_cv"] == pytest.approx(1.09, abs=0.005)
    assert (found["prompt_tokens"]["p50"], found["prompt_tokens"]["p99"]) == (1020, 4142)
    assert math.isclose(found["output_tokens"]["mean"], 211, abs_tol=0.5)


def test_measured_runs_repeat_their_prompts():
    """A hundred prompts in turn: all that repeats is whole blocks, so all but 2 % of the tokens."""
    spec = WorkloadSpec(trace=str(shared_data("serving/requests/h100-llama-2-7b-tp1-general-t231439.csv.gz")))
    found = describe(request_blocks(spec, seed=0, folder=Path()))
    assert found["requests"] == 16_800
    assert found["repeated_prompt_share"] == pytest.approx(0.978, abs=0.001)
