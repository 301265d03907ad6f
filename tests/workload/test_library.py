"""The workloads gpusim knows by name, against the data they were made from."""

import csv
import math
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest

from gpusim.core.random import Streams
from gpusim.spec.document import validate
from gpusim.spec.names import names, read
from gpusim.spec.workload import WorkloadSpec
from gpusim.workload.lengths import length_blocks
from gpusim.workload.stream import requests
from helpers import shared_data

AZURE = {"chat": "conv", "code": "code", "conversation": "conv"}
PARTS = ["prompt_tokens", "output_tokens"]
N = 20_000


def load(name):
    return validate(WorkloadSpec, read("workload", name))


def table(name, part):
    """Return levels and tokens of a workload's quantile table."""
    quantiles = getattr(load(name), part).quantiles
    return np.array(sorted(quantiles)), np.array([quantiles[level] for level in sorted(quantiles)])


def azure(name):
    """Return arrivals, prompts and outputs of the trace behind *name*."""
    path = shared_data(f"traces/azure_llm_2023_{AZURE[name]}.csv")
    with path.open() as file:
        rows = list(csv.reader(file))[1:]
    return np.array(rows, dtype=float).T


def mean(levels, tokens):
    """Return the mean of a piecewise-linear table."""
    return np.sum(np.diff(levels) * (tokens[1:] + tokens[:-1]) / 2)


def ranks(values):
    """Return ranks, the mean rank where values are equal."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def test_every_known_workload_has_a_source_and_yields_requests():
    """Each file of the library validates, says where it comes from, and gives its 1000 requests."""
    assert set(names("workload")) >= {"chat", "code", "conversation", "long-context"}
    for name in names("workload"):
        document = read("workload", name)
        spec = validate(WorkloadSpec, document)
        assert spec.source
        assert sum(1 for _ in requests(spec, seed=0, folder=document.folder)) == spec.num_requests == 1000


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", AZURE)
def test_quantiles_are_those_of_the_trace(name, part):
    """Every entry is the order statistic of the Azure trace, to the token."""
    levels, tokens = table(name, part)
    measured = azure(name)[1 + PARTS.index(part)]
    assert tokens.tolist() == np.quantile(measured, levels, method="inverted_cdf").tolist()


@pytest.mark.parametrize(("name", "correlation"), [("chat", 0.07), ("code", -0.02), ("conversation", 0.07)])
def test_stated_facts_of_the_traces_hold(name, correlation):
    """Rate, variation of the gaps and rank correlation are what the files say."""
    arrivals, prompts, outputs = azure(name)
    gaps, stated = np.diff(arrivals), load(name).arrivals
    assert stated.rate == pytest.approx(1 / gaps.mean(), rel=0.01)
    assert np.corrcoef(ranks(prompts), ranks(outputs))[0, 1] == pytest.approx(correlation, abs=0.005)
    cv = 1 / math.sqrt(getattr(stated, "burstiness", 1.0))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.1 if name == "chat" else 0.001)


@pytest.mark.parametrize(
    ("name", "part", "in_table", "in_trace"),
    [
        ("chat", 0, 1233, 1155),
        ("chat", 1, 219, 211),
        ("code", 0, 2122, 2048),
        ("code", 1, 36, 28),
        ("conversation", 0, 1149, 1155),
        ("conversation", 1, 211, 211),
    ],
)
def test_what_straight_lines_do_to_the_means_is_as_stated(name, part, in_table, in_trace):
    """The means of table and trace are those the files and the documentation give."""
    assert round(mean(*table(name, PARTS[part]))) == in_table
    assert round(azure(name)[1 + part].mean()) == in_trace


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", ["chat", "code", "conversation", "long-context"])
def test_drawn_lengths_reproduce_the_table(name, part):
    """The distance to the table's distribution is within the Kolmogorov-Smirnov bound of 0.1 %."""
    levels, tokens = table(name, part)
    drawn = np.sort(list(islice(chain.from_iterable(length_blocks(getattr(load(name), part), part, Streams(0))), N)))
    values = np.unique(drawn)
    measured = np.searchsorted(drawn, values, side="right") / N
    assert np.abs(measured - np.interp(values + 0.5, tokens, levels)).max() < 1.95 / math.sqrt(N)


def test_prompts_and_outputs_are_drawn_independently():
    """Their rank correlation is zero within four standard errors."""
    spec = load("chat").model_copy(update={"num_requests": N})
    pairs = np.array([(s.prompt_tokens, s.output_tokens) for s in requests(spec, seed=0, folder=Path())])
    assert abs(np.corrcoef(ranks(pairs[:, 0]), ranks(pairs[:, 1]))[0, 1]) < 4 / math.sqrt(N)


def test_long_prompts_follow_the_published_quantiles():
    """Cut to 8 Ki to 64 Ki, the published quantiles, straight in the logarithm, give the table to the token."""
    published = np.log([6909, 27_367, 39_500, 126_195])
    shares = [0.5, 0.9, 0.95, 1.0]
    low, high = np.interp(np.log([8192, 65_536]), published, shares)
    levels, tokens = table("long-context", "prompt_tokens")
    assert tokens == pytest.approx(np.exp(np.interp(low + levels * (high - low), shares, published)), abs=0.5)
    assert load("long-context").arrivals.rate == pytest.approx((high - low) * 12_031 / 3537, rel=0.03)


def test_long_contexts_outputs_have_the_published_mean():
    """The mean of the piecewise-linear table is 343 tokens, within 1 %."""
    levels, tokens = table("long-context", "output_tokens")
    assert mean(levels, tokens) == pytest.approx(343, rel=0.01)
    assert np.interp([0.5, 0.95, 1.0], levels, tokens).tolist() == [350, 700, 2000]


@pytest.mark.parametrize("name", AZURE)
def test_the_traces_themselves_are_read_whole(name):
    """A trace as a workload gives each of its requests, to the last digit."""
    path = shared_data(f"traces/azure_llm_2023_{AZURE[name]}.csv")
    made = requests(WorkloadSpec(trace=path.name), seed=0, folder=path.parent)
    rows = [(shape.arrival_s, shape.prompt_tokens, shape.output_tokens) for shape in made]
    assert rows == [tuple(row) for row in azure(name).T.tolist()]
