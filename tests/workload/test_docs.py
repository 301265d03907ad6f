"""The documentation's samples are read by the code they describe."""

import re
from pathlib import Path

import pytest

from gpusim.workload.content import shared_tokens
from gpusim.workload.named import read_workload
from gpusim.workload.stream import request_blocks, requests
from gpusim.workload.trace import open_trace, read_trace
from helpers import REPOSITORY

TRACES = {
    "csv": ["gpusim", "gpusim", "gpusim", "Azure", "BurstGPT", "Vidur", "measured requests"],
    "jsonl": ["Mooncake", "LLMServingSim", "vLLM requests"],
    "json": ["ShareGPT", "vLLM result"],
}
"""Formats of the samples, in the order of the page."""


def samples(language):
    """Return the fenced blocks of a language in docs/workloads.md."""
    text = (REPOSITORY / "docs" / "workloads.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def written(tmp_path):
    """Write the samples of traces to files; return their paths by language."""
    paths = {}
    for language in TRACES:
        paths[language] = [tmp_path / f"{index}.{language}" for index in range(len(samples(language)))]
        for path, text in zip(paths[language], samples(language), strict=True):
            path.write_text(text, encoding="utf-8")
    return paths


@pytest.mark.parametrize("text", samples("yaml"))
def test_workload_samples_yield_requests(text, tmp_path):
    """Each YAML block is a workload as it stands; the trace that one names is that of vLLM's request files."""
    (tmp_path / "requests.jsonl").write_text(samples("jsonl")[2], encoding="utf-8")
    (tmp_path / "sample.yaml").write_text(text, encoding="utf-8")
    spec = read_workload("sample.yaml", tmp_path)
    assert next(requests(spec, seed=0, folder=Path())).prompt_tokens >= 1
    assert sum(map(len, request_blocks(spec, seed=0, folder=Path()))) >= 2


def test_every_format_has_a_sample(written):
    """Each block is read as the format it is a sample of, in blocks as line by line."""
    for language, formats in TRACES.items():
        assert [open_trace(path).name for path in written[language]] == formats
        for path in written[language]:
            rows = list(read_trace(path))
            assert [row for block in open_trace(path).blocks() for row in block.rows()] == rows
            assert rows


def test_samples_of_the_same_requests_agree(written):
    """gpusim's, Azure's and Vidur's samples are the same two requests; BurstGPT's failed one is left out."""
    first, _, _, azure, burst, vidur, measured = (list(read_trace(path)) for path in written["csv"])
    assert first == azure == vidur
    assert [row.arrival_s for row in first] == [0.0, 4.314579]
    assert [row.output_tokens for row in burst] == [18, 276]
    assert [(row.prompt_tokens, row.output_tokens) for row in measured] == [(596, 247), (594, 247)]


def test_samples_share_what_the_page_says(written):
    """System prompts, turns of sessions, blocks of 512 tokens."""
    _, prefixed, session = (list(read_trace(path)) for path in written["csv"][:3])
    assert shared_tokens(prefixed[0].content, prefixed[1].content) == 300
    assert shared_tokens(session[0].content, session[1].content) == 374 + 44
    assert session[1].think_s == 12.5
    mooncake, agent, _ = (list(read_trace(path)) for path in written["jsonl"])
    assert shared_tokens(mooncake[0].content, mooncake[1].content) == 1024
    assert agent[2].is_follower
    conversation, result = (list(read_trace(path)) for path in written["json"])
    assert [(row.prompt_tokens, row.output_tokens) for row in conversation] == [(12, 40), (61, 300)]
    assert [row.arrival_s for row in result] == [0.0, 4.25]
