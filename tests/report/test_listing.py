"""What `gpusim list` says is what the catalog says."""

import io
import json

import pytest
from rich.console import Console

from gpusim.listing import describe
from gpusim.report.listing import print_listing
from gpusim.spec.names import Kind, names
from gpusim.units import GiB

KINDS: dict[str, Kind] = {
    "devices": "device",
    "models": "model",
    "topologies": "topology",
    "workloads": "workload",
    "examples": "example",
    "engines": "engine",
}


def entry(what, name):
    return next(row for row in describe(what) if row["name"] == name)


@pytest.mark.parametrize(("what", "kind"), KINDS.items())
def test_every_name_has_one_entry(what, kind):
    """All entries of a kind have the same keys, so they make a table."""
    rows = describe(what)
    assert [row["name"] for row in rows] == names(kind)
    assert len({tuple(row) for row in rows}) == 1


def test_devices_are_told_by_their_peaks():
    """SI values of the data sheet, what reads achieve, and where the laws come from."""
    a100, v100 = entry("devices", "a100-sxm-80gb"), entry("devices", "v100-sxm-32gb")
    assert (a100["memory_bytes"], a100["channels"], a100["memory_efficiency"]) == (80 * GiB, 80, 0.87)
    assert (a100["peak_flops"]["bf16"], a100["peak_flops"]["int8"]) == (312e12, 624e12)
    assert (a100["measured_laws"], a100["laws_from"]) == (True, None)
    assert (v100["measured_laws"], v100["laws_from"]) == (False, "a100-sxm-80gb")
    assert v100["memory_efficiency"] == pytest.approx(0.894, abs=1e-3)


def test_aggregate_memory_has_no_channels():
    """Where the structure is unknown, neither a number of channels nor a standard is made up."""
    tpu = entry("devices", "tpu-v5e")
    assert (tpu["channels"], tpu["memory_standard"], tpu["memory_efficiency"]) == (None, None, 0.9)


def test_devices_as_json():
    """The keys and types that scripts rely on; plain JSON."""
    rows = json.loads(json.dumps(describe("devices")))
    kinds = {
        **dict.fromkeys(("name", "vendor", "family", "host_link"), str),
        **dict.fromkeys(("memory_bytes", "memory_bandwidth_bytes_per_s", "memory_efficiency", "l2_bytes"), float),
        **dict.fromkeys(("visible_bytes", "boost_clock_hz", "link_bandwidth_bytes_per_s"), float),
        **dict.fromkeys(("memory_standard", "laws_from"), str | None),
        "channels": int | None,
        "sm_count": int,
        "peak_flops": dict,
        "measured_laws": bool,
    }
    for row in rows:
        assert row.keys() == kinds.keys()
        assert all(isinstance(row[key], kind) for key, kind in kinds.items())
        assert (row["laws_from"] is None) == row["measured_laws"]
        assert all(isinstance(rate, float) for rate in row["peak_flops"].values())


def test_models_are_told_by_their_sizes():
    """Parameters and the cache of a token: 2 × 32 layers × 32 heads × 128 × 2 bytes for Llama-2-7B."""
    llama = entry("models", "llama-2-7b")
    assert llama["kv_bytes_per_token"] == 2 * 32 * 32 * 128 * 2
    assert llama["parameters"] == pytest.approx(6.74e9, rel=1e-3)
    assert llama["active_parameters"] == llama["parameters"]
    shown = {key: llama[key] for key in ("layers", "hidden_size", "head_dim", "vocab_size", "max_model_len")}
    assert list(shown.values()) == [32, 4096, 128, 32000, 4096]


@pytest.mark.parametrize(("name", "kind"), [("llama-2-7b", "mha"), ("llama-3.1-8b", "gqa"), ("falcon-7b", "mqa")])
def test_attention_is_named_by_what_heads_share(name, kind):
    """No keys and values are shared, those of a group, or all."""
    assert entry("models", name)["attention"] == kind


def test_topologies_are_told_by_their_gpus_and_links():
    """How many GPUs, which, and what one of them can send over its links."""
    dgx = entry("topologies", "dgx-h100")
    assert (dgx["num_gpus"], dgx["devices"]) == (8, ["h100-sxm"])
    assert dgx["links_of_gpu_bytes_per_s"]["nvlink"] == 450e9


def test_workloads_are_told_by_their_arrivals_and_lengths():
    """Median and 99th percentile are those that the file states."""
    chat = entry("workloads", "chat")
    assert (chat["arrivals"], chat["rate_per_s"]) == ("poisson", 5.5)
    assert (chat["prompt_tokens_p50"], chat["output_tokens_p50"]) == (1020, 129)


@pytest.mark.parametrize("what", KINDS)
def test_tables_fit_a_usual_terminal(what):
    """Every name is there; only prose is wrapped, and no line is longer than the console."""
    screen = Console(file=io.StringIO(), width=80)
    print_listing(what, describe(what), screen)
    text = screen.file.getvalue()
    assert all(row["name"] in text for row in describe(what))
    assert max(map(len, text.splitlines())) <= 80
