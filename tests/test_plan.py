"""From a scenario to a plan: who runs where with what."""

from pathlib import Path
from typing import Any

import pytest

from builders import build_plan, scenario_data
from gpusim.errors import SpecError
from gpusim.model.footprint import kv_bytes_per_token, weight_bytes
from gpusim.plan import load, open_scenario, plan_document
from gpusim.spec.document import Document
from gpusim.units import GiB


def engine(name: str, *gpus: str, **known: Any) -> dict[str, Any]:
    return {"name": name, "gpus": list(gpus), **known}


def problems(**changes: Any) -> str:
    """Return what is said of a wrong scenario."""
    with pytest.raises(SpecError) as caught:
        build_plan(**changes)
    return str(caught.value)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_a_single_engine_takes_the_first_gpus(size):
    """Without `engines:` there is one, on as many GPUs as its tensor parallelism asks for."""
    (placed,) = build_plan(topology="dgx-h100", serving__tensor_parallel_size=size).engines
    assert placed.gpus == tuple(f"gpu{i}" for i in range(size))
    assert placed.device.name == "h100-sxm"


def test_engines_take_from_the_scenario_what_they_leave_out():
    """Model, types, serving, attention and workload are the scenario's, unless an engine has its own."""
    own = engine("b", "gpu1", model="llama-3.1-8b", dtype={"kv": "fp8"}, serving={"block_size": 8}, attention="mqa")
    plan = build_plan(topology="dgx-h100", engines=[engine("a", "gpu5"), own])
    a, b = plan.engines
    assert (a.gpus, a.model.name, a.dtype.kv, a.serving.max_num_seqs) == (("gpu5",), "tiny", "bf16", 8)
    assert (b.model.name, b.dtype.kv, b.serving.block_size, b.serving.max_num_seqs) == ("llama-3.1-8b", "fp8", 8, 128)
    assert (a.attention.attention, b.attention.attention) == (None, "mqa")
    assert b.model.layers[0].attention.num_kv_heads == 1


def test_defaults_are_the_models_own():
    """`max_model_len` comes from the model where nothing is said."""
    assert build_plan().engines[0].serving.max_model_len == 2048
    assert build_plan(serving__max_model_len=512).engines[0].serving.max_model_len == 512


def test_memory_is_divided_without_remainder():
    """Weights, workspace and blocks fill the usable part of the GPU to less than one block."""
    (placed,) = build_plan(model="llama-3.1-8b").engines
    memory = placed.memory
    usable = 0.9 * placed.device.memory.visible_bytes
    used = memory.weight_bytes + memory.workspace_bytes + memory.num_blocks * memory.block_bytes
    assert memory.weight_bytes == weight_bytes(placed.model, "bf16")
    assert memory.block_bytes == 16 * kv_bytes_per_token(placed.model, "bf16")
    assert usable - memory.block_bytes < used <= usable


def test_pooled_kv_lies_where_no_engine_computes():
    """The pool is every memory without an engine, and its blocks fill it."""
    plan = build_plan(topology="dgx-a100-80gb", serving__kv_placement="pooled", serving__tensor_parallel_size=2)
    (placed,) = plan.engines
    assert placed.pool == tuple(f"gpu{i}" for i in range(2, 8))
    blocks = int(0.9 * 6 * 80 * GiB // (16 * kv_bytes_per_token(placed.model, "bf16")))
    assert placed.memory.num_blocks == blocks


def test_a_resolved_scenario_resolves_to_itself():
    """Everything is written out once: names, defaults, paths."""
    resolved = build_plan(engines=[engine("a", "gpu0", attention="mqa")], topology="dgx-h100").resolved()
    again = plan_document(Document("again", resolved)).resolved()
    assert again == resolved
    assert list(resolved)[:2] == ["schema", "name"]
    assert resolved["topology"]["nodes"][0]["device"]["name"] == "h100-sxm"


def test_keys_of_something_named_can_be_set():
    """`--set model.max_model_len=...` changes the named model, topology or workload for this scenario only."""
    overrides = {"model.max_model_len": 9000, "topology.links.0.bandwidth": "5 GB/s", "workload.num_requests": 3}
    changed = plan_document(open_scenario("chat", {**overrides, "serving.max_model_len": None}))
    assert changed.engines[0].serving.max_model_len == 9000
    assert changed.engines[0].model.hidden_size == 4096
    assert changed.topology.links[0].bandwidth == 5e9
    assert load("chat").model.max_model_len == 131072


def test_a_trace_is_found_from_the_file_that_names_it(tmp_path):
    """The plan has its absolute path, so the resolved scenario runs from anywhere."""
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n", encoding="utf-8")
    data = scenario_data(workload={"trace": "t.csv"})
    plan = plan_document(Document("mine", data, folder=tmp_path))
    assert Path(plan.workload.trace) == (tmp_path / "t.csv").resolve()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"engines": [engine("a", "gpu0", "gpu1")]},
            "engines[0].gpus: 2 GPUs, but tensor_parallel_size = 1; make the two equal",
        ),
        ({"engines": [engine("a", "gpu0"), engine("a", "gpu1")]}, "engines: names must differ, not a, a"),
        (
            {"engines": [engine("a", "gpu0", attention="gqa:3")]},
            "engines[0].attention: 3 KV heads do not divide num_heads = 8",
        ),
        ({"engines": [engine("a", "gpu9")], "model": "tinny"}, "engines[0].model: 'tinny': unknown model"),
        (
            {"topology": "single-gpu", "serving__kv_placement": "pooled"},
            "serving.kv_placement: pooled: single-gpu has no GPU",
        ),
        ({"serving__num_gpu_blocks_override": 10**9}, "num_gpu_blocks_override = 1000000000 blocks need"),
        ({"attention_keeps_weights": True}, "attention_keeps_weights needs attention: mha, mqa or gqa:N"),
        ({"serving__max_num_batched_tokens": 4}, "max_num_batched_tokens = 4 is below max_num_seqs = 8"),
        ({"model": None}, "model: this key is required, here or for all engines"),
        ({"workload": None}, "workload: this key is required, or one in each of engines"),
        (
            {"background": [{"kind": "all_reduce", "gpus": ["gpu0", "gpu9"], "size": "1 B"}]},
            "background[0].gpus: gpu9: unknown",
        ),
    ],
)
def test_what_cannot_be_placed_is_named(changes, message):
    """Each problem has the key it is about."""
    assert message in problems(**{"topology": "dgx-h100", **changes})


def test_a_workload_may_suit_one_of_its_engines():
    """Requests too long for one engine are no error where another can serve them."""
    short, long = engine("a", "gpu0", serving={"max_model_len": 20}), engine("b", "gpu1")
    assert len(build_plan(topology="dgx-h100", engines=[short, long]).engines) == 2
    message = problems(topology="dgx-h100", engines=[short])
    assert "workload: the shortest request has 46 tokens, serving.max_model_len is 20; shorten" in message


def test_problems_of_all_engines_come_together():
    """One engine that cannot be placed does not hide what is wrong with the next."""
    message = problems(topology="dgx-h100", engines=[engine("a", "gpu9"), engine("b", "gpu0", model="llama-2-70b")])
    assert "engines[0].gpus: gpu9: no such GPU in dgx-h100" in message
    assert "engines[1].model: llama-2-70b does not fit h100-sxm: weights need 128.5 GiB" in message


def test_hashed_memory_is_not_yet_played(tmp_path):
    """The hash serves studies of the bank; a run, in which every layer would lie differently, is refused."""
    (tmp_path / "hashed.yaml").write_text("extends: a100-sxm-80gb\nname: hashed\nmemory: {map: hash}\n")
    node = {"kind": "gpu", "name": "gpu0", "device": str(tmp_path / "hashed.yaml")}
    message = problems(topology={"name": "one", "nodes": [node]})
    assert "topology: hashed: not yet: map: hash in a run" in message


def test_an_engine_overrides_the_attention_key_by_key():
    """What an engine says of its kernel leaves what the scenario says of the heads."""
    plan = build_plan(attention="mqa", engines=[engine("a", "gpu0", attention_kernel="naive")])
    (placed,) = plan.engines
    assert placed.model.layers[0].attention.num_kv_heads == 1
    assert placed.attention.attention_kernel == "naive"


def test_windows_that_hold_every_request_are_none():
    """A window of max_model_len tokens leaves nothing out, so those layers are of one kind with those without."""
    model = load("chat").model
    (group,) = model.layers
    windowed = group.model_copy(update={"attention": group.attention.model_copy(update={"window": 4096}), "count": 16})
    layers = [layer.model_dump(mode="json", exclude_none=True) for layer in (windowed, windowed)]
    data = model.model_dump(mode="json", by_alias=True, exclude_none=True) | {"layers": layers}
    assert [build_plan(model=data, serving__max_model_len=n).engines[0].model.windows for n in (4096, 4097)] == [
        (),
        (4096,),
    ]


def test_blocks_hold_the_kv_of_all_layers():
    """A block is the sum over layers, each with its own KV heads and stored type."""
    model = load("chat").model
    mixed = [group.model_dump(mode="json", exclude_none=True) for group in [*model.layers, *model.layers]]
    mixed[1]["attention"]["num_kv_heads"] = 4
    mixed[1]["kv_dtype"] = "fp8"
    data = model.model_dump(mode="json", by_alias=True, exclude_none=True) | {"layers": mixed}
    (engine,) = build_plan(model=data).engines
    assert engine.memory.block_bytes == 16 * 32 * 2 * 128 * (8 * 2 + 4 * 1)
