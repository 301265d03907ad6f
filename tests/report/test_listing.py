"""What `gpusim list` says is what the catalog says."""

import io

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
    """SI values of the data sheet, and whether there are measurements."""
    a100 = entry("devices", "a100-sxm-80gb")
    assert a100["memory_bytes"] == 80 * GiB
    assert a100["dense_16_bit_flops_per_s"] == 312e12
    assert a100["measured"]


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
