"""Same input, same bytes."""

import json
import os
import subprocess
import sys

import pytest

from builders import build_simulation
from gpusim.core.probe import RecordingProbe
from gpusim.plan import open_scenario, plan_document
from gpusim.simulation import Simulation

BUSY = {
    "topology": "dgx-a100-80gb",
    "engines": [
        {
            "name": "left",
            "gpus": ["gpu0", "gpu1"],
            "serving": {"tensor_parallel_size": 2, "max_num_seqs": 3, "max_model_len": 40},
        },
        {
            "name": "right",
            "gpus": ["gpu2"],
            "serving": {"max_num_seqs": 4, "num_gpu_blocks_override": 4, "max_num_batched_tokens": 20},
        },
    ],
    "workload": {
        "arrivals": {"kind": "gamma", "rate": "20000 /s", "burstiness": 0.5},
        "prompt_tokens": {"kind": "lognormal", "median": 24, "p99": 60},
        "output_tokens": {"kind": "quantiles", "quantiles": {0: 1, 0.5: 8, 1: 20}},
        "num_requests": 12,
    },
    "background": [
        {"kind": "copy", "from": "gpu0", "to": "gpu3", "size": "1 MiB", "period": "300 us"},
        {"kind": "copy", "from": "gpu2", "to": "gpu2", "rate": "100 GB/s"},
    ],
    "slo": {"ttft": "1 ms", "itl": "0.3 ms"},
}
"""Two engines, preemption, rejection and traffic that disturbs both."""


def save(directory, *, probes=(), **changes):
    """Run and save; return the bytes of every file."""
    build_simulation(probes=probes, **(BUSY | changes)).run().save(directory)
    return contents(directory)


def contents(directory):
    return {file.name: file.read_bytes() for file in sorted(directory.iterdir())}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The files of one run."""
    return save(tmp_path_factory.mktemp("runs") / "first")


def test_the_run_is_worth_comparing(saved):
    """It has preemptions, rejections and disturbed kernels, in seven files."""
    summary = json.loads(saved["summary.json"])
    assert len(saved) == 7
    assert summary["requests"]["preemptions"] > 0
    assert summary["requests"]["rejected"] > 0
    assert all(engine["attribution"]["seconds"]["waiting"] > 0 for engine in summary["engines"].values())


def test_the_same_seed_gives_the_same_bytes(saved, tmp_path):
    """Every file of a second run is equal, byte for byte."""
    assert save(tmp_path / "again") == saved


def test_a_probe_changes_no_byte(saved, tmp_path):
    """A probe that records every span and counter sees a lot and leaves all files as they are."""
    probe = RecordingProbe()
    assert save(tmp_path / "watched", probes=[probe]) == saved
    assert len(probe.spans) > 1000
    assert len(probe.counters) > 100


def test_another_seed_gives_another_run(saved, tmp_path):
    """Requests and steps differ, not only the seed in the summary."""
    other = save(tmp_path / "other", seed=1)
    assert all(other[name] != saved[name] for name in ("requests.parquet", "steps.parquet", "scenario.yaml"))


@pytest.mark.parametrize("hash_seed", ["4242"])
def test_the_saved_scenario_runs_again_to_the_same_bytes(saved, tmp_path, hash_seed):
    """`gpusim run scenario.yaml`, in a process that hashes text differently, writes the same files again."""
    (tmp_path / "scenario.yaml").write_bytes(saved["scenario.yaml"])
    start = "from gpusim.cli import main; main()"
    command = [sys.executable, "-c", start, "run", "scenario.yaml", "--out", "out"]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert contents(tmp_path / "out") == saved


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "mqa", "attention_keeps_weights": True},
        {"attention": "mqa", "engines": [{"name": "one", "gpus": ["gpu0"]}]},
        {"engines": [{"name": "one", "gpus": ["gpu0"], "attention_kernel": "naive"}], "attention": "mha"},
        {"dtype": {"kv": "fp8"}, "engines": [{"name": "one", "gpus": ["gpu0"], "dtype": {"weights": "int8"}}]},
        {"workload": {"extends": "chat", "arrivals": {"kind": "closed", "concurrency": 2}, "num_requests": 3}},
        {"efficiency": "ideal", "measure": {"warmup": "1 ms", "cooldown": "0.2 ms"}, "name": "ideal: yes, #1"},
    ],
    ids=" ".join,
)
def test_a_resolved_scenario_means_the_same(tmp_path, changes):
    """What a run saves as its scenario resolves to itself, and runs to the same bytes."""
    build_simulation(**changes).run().save(tmp_path / "first")
    plan = plan_document(open_scenario(tmp_path / "first" / "scenario.yaml"))
    Simulation(plan).run().save(tmp_path / "second")
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_more_requests_leave_the_first_ones_alone(tmp_path):
    """Requests are drawn by number: with twice as many, each of the first has its arrival and lengths still."""
    few, many = (
        build_simulation(**BUSY),
        build_simulation(**(BUSY | {"workload": BUSY["workload"] | {"num_requests": 24}})),
    )
    few.run()
    many.run()
    keys = ["index", "arrival_ps", "prompt_tokens", "output_tokens"]
    rows = [sorted(simulation.requests.rows[keys].tolist()) for simulation in (few, many)]
    assert rows[0] == rows[1][:12]
