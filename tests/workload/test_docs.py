"""The documentation's samples are read by the code they describe."""

import re
from pathlib import Path

import pytest

from gpusim.spec.document import parse_document, validate
from gpusim.spec.workload import WorkloadSpec
from gpusim.workload.stream import requests
from gpusim.workload.trace import read_trace
from helpers import REPOSITORY


def samples(language):
    """Return the fenced blocks of a language in docs/workloads.md."""
    text = (REPOSITORY / "docs" / "workloads.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("text", samples("yaml"))
def test_workload_samples_yield_requests(text):
    """Each YAML block is a workload as it stands."""
    spec = validate(WorkloadSpec, parse_document(text, "docs/workloads.md", Path()))
    assert next(requests(spec, seed=0, folder=Path())).prompt_tokens >= 1


def test_trace_samples_are_the_same_trace_in_two_formats(tmp_path):
    """Each CSV block is a trace, and both say the same requests."""
    rows = []
    for index, text in enumerate(samples("csv")):
        path = tmp_path / f"{index}.csv"
        path.write_text(text)
        rows.append(list(read_trace(path)))
    assert rows == [[(0.0, 374, 44), (4.314579, 396, 109)]] * 2
