"""What is wrong in a file is said of the key the user wrote, in the user's own file."""

import pytest

from gpusim.errors import SpecError
from gpusim.spec.device import DeviceSpec
from gpusim.spec.document import Document, validate
from gpusim.spec.names import read
from gpusim.spec.scenario import Scenario
from gpusim.spec.serving import ServingSpec
from gpusim.spec.topology import TopologySpec
from gpusim.spec.unknown_key import OF_ENGINES, unknown_key

MEMORIES = {
    "channels": {
        "kind": "channels",
        "standard": "GDDR6",
        "channels": "24",
        "capacity": "48 GiB",
        "visible": "0.98",
        "bandwidth": "768 GB/s",
        "efficiency": "0.9",
        "granule": "512 B",
        "map": "rotate",
    },
    "aggregate": {
        "kind": "aggregate",
        "capacity": "48 GiB",
        "visible": "0.98",
        "bandwidth": "768 GB/s",
        "efficiency": "0.9",
    },
}
"""Every key of a device's memory."""
WRONG = {
    "standard": ("GDDR9", "'GDDR9': unknown value; did you mean \"GDDR7\"?"),
    "channels": ("many", "expected a whole number, not 'many'"),
    "capacity": ("48", "write the unit, e.g. 48 GiB (or B, KiB, MiB, GB)"),
    "visible": ("1.5", "must be at most 1, not 1.5"),
    "bandwidth": ("768 GiB", "'GiB' is not a unit of bytes/s; use one of B/s"),
    "efficiency": ("90 %", "expected a number, not '90 %'"),
    "granule": ("512", "write the unit, e.g. 512 "),
    "map": ("rotat", "'rotat': unknown value; did you mean \"rotate\"?"),
}
"""A wrong value for each key, and what is said of it."""
OPTIONAL = {"visible", "efficiency", "granule", "map"}
REST = "l2: 6 MiB\ncompute: {sm_count: 84, boost_clock: 1.8 GHz, peak: {bf16: 154.8 TFLOP/s}}\n"
EXTENDED = ("", "extends: l40s\n")
"""What a device file begins with: nothing, or what it lies over."""
EACH_KEY = [(kind, key) for kind, memory in MEMORIES.items() for key in memory if key != "kind"]


def device_file(memory, start=""):
    """Write a device with *memory*, which begins in line 2 or 3."""
    lines = "".join(f"  {key}: {value}\n" for key, value in memory.items())
    return f"{start}name: mine\nmemory:\n{lines}{REST}"


def line_of(text, key):
    """Return the line on which *key* of memory stands."""
    return next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith(f"  {key}:"))


def said_of(folder, text):
    """Return what is said of a device file, a line for each problem."""
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        validate(DeviceSpec, read("device", str(path)))
    first, *problems = str(caught.value).splitlines()
    assert first == f"{path}:"
    return [problem.strip() for problem in problems]


@pytest.mark.parametrize("start", EXTENDED, ids=["plain", "extends"])
@pytest.mark.parametrize(("kind", "key"), EACH_KEY)
def test_a_wrong_value_of_memory_is_named(tmp_path, kind, key, start):
    """By its own key and line, whatever the kind of memory is called."""
    value, message = WRONG[key]
    text = device_file(MEMORIES[kind] | {key: value}, start)
    (problem,) = said_of(tmp_path, text)
    assert problem.startswith(f"line {line_of(text, key)}: memory.{key}: {message}")


@pytest.mark.parametrize("start", EXTENDED, ids=["plain", "extends"])
@pytest.mark.parametrize(("kind", "key"), EACH_KEY)
def test_a_misspelled_key_of_memory_is_named(tmp_path, kind, key, start):
    """With the key that was meant; it is not missing where what lies below has it."""
    slip = key[:-2] + key[-1]
    memory = {slip if own == key else own: value for own, value in MEMORIES[kind].items()}
    text = device_file(memory, start)
    problems = said_of(tmp_path, text)
    unknown = f'line {line_of(text, slip)}: memory.{slip}: unknown key; did you mean "{key}"?'
    missing = f"line {text.splitlines().index('memory:') + 1}: memory.{key}: this key is required"
    is_missing = key not in OPTIONAL and not (start and kind == "channels")
    assert problems == ([missing] if is_missing else []) + [unknown]


@pytest.mark.parametrize(("kind", "key"), EACH_KEY)
def test_a_missing_key_of_memory_is_named(tmp_path, kind, key):
    """At the mapping it should be in; of another kind nothing is taken from what lies below."""
    if key in OPTIONAL:
        return
    memory = {own: value for own, value in MEMORIES[kind].items() if own != key}
    assert said_of(tmp_path, device_file(memory)) == [f"line 2: memory.{key}: this key is required"]
    if kind == "aggregate":
        assert said_of(tmp_path, device_file(memory, EXTENDED[1])) == [f"line 3: memory.{key}: this key is required"]


@pytest.mark.parametrize("start", EXTENDED, ids=["plain", "extends"])
def test_an_unknown_kind_of_memory_is_named(tmp_path, start):
    """With those there are."""
    text = device_file(MEMORIES["channels"] | {"kind": "chanels"}, start)
    expected = f"line {line_of(text, 'kind')}: memory.kind: 'chanels': unknown kind; did you mean \"channels\"?"
    assert said_of(tmp_path, text) == [expected]


def test_one_key_over_a_base_is_in_the_users_file(tmp_path):
    """A wrong value is the user's, though the other keys of the mapping are the catalog's."""
    assert said_of(tmp_path, "extends: l40s\nname: mine\nmemory: {capacity: 48}\n") == [
        "line 3: memory.capacity: write the unit, e.g. 48 GiB (or B, KiB, MiB, GB)"
    ]


DATA = {
    "lengths called as their key": (
        Scenario,
        {"workload": {"prompt_tokens": {"kind": "quantiles", "quantiles": 5}}},
        "workload.prompt_tokens.quantiles: expected a mapping, not 5",
    ),
    "lengths without their key": (
        Scenario,
        {"workload": {"prompt_tokens": {"kind": "quantiles"}}},
        "workload.prompt_tokens.quantiles: this key is required",
    ),
    "an unknown key of lengths": (
        Scenario,
        {"workload": {"prompt_tokens": {"kind": "quantiles", "quantiles": {0: 1, 1: 2}, "max": 5}}},
        "workload.prompt_tokens.max: unknown key; known: kind, quantiles",
    ),
    "arrivals called as their key": (
        Scenario,
        {"workload": {"arrivals": {"kind": "stages", "stages": [], "rat": 1}}},
        "workload.arrivals.rat: unknown key; known: kind, stages",
    ),
    "an entry of them": (
        Scenario,
        {"workload": {"arrivals": {"kind": "stages", "stages": [{"rate": "1 /s", "duration": 5}]}}},
        "workload.arrivals.stages[0].duration: write the unit, e.g. 5 ",
    ),
    "a key called as the kind": (
        Scenario,
        {"workload": {"arrivals": {"kind": "poisson", "poisson": 3}}},
        "workload.arrivals.poisson: unknown key; known: kind, rate",
    ),
    "a mapping called as the kind": (
        Scenario,
        {"workload": {"arrivals": {"kind": "closed", "closed": {"concurrency": 3}}}},
        "workload.arrivals.concurrency: this key is required",
    ),
    "think time": (
        Scenario,
        {"workload": {"sessions": {"think_time": {"kind": "fixed", "fixed": "1 s", "value": 2}}}},
        "workload.sessions.think_time.value: write the unit, e.g. 2 ",
    ),
    "background": (
        Scenario,
        {"background": [{"kind": "copy", "copy": 1, "from": "gpu0", "to": "cpu0", "size": 5}]},
        "background[0].size: write the unit, e.g. 5 ",
    ),
    "a node": (
        TopologySpec,
        {"nodes": [{"kind": "memory", "name": "pool", "memory": {"kind": "aggregate", "capacity": "1 GiB"}}]},
        "nodes[0].memory.bandwidth: this key is required",
    ),
    "a node called as its key": (
        TopologySpec,
        {"nodes": [{"kind": "memory", "memory": {"kind": "aggregate", "capacity": "1 GiB", "bandwidth": "1 GB/s"}}]},
        "nodes[0].name: this key is required",
    ),
    "a device inside a node": (
        TopologySpec,
        {
            "nodes": [
                {"kind": "gpu", "gpu": 1, "name": "gpu", "device": {"memory": MEMORIES["channels"] | {"map": "x"}}}
            ]
        },
        "nodes[0].device.memory.map: 'x': unknown value; known: rotate, hash",
    ),
    "a block": (
        Scenario,
        {"model": {"layers": [{"mlp": {"kind": "gated", "gated": 1}}]}},
        "model.layers[0].mlp.gated: unknown key; known: bias, intermediate_size, kind",
    ),
}
"""Mappings whose kind is also called like a key, with a slip in them, and a line of what is said."""


@pytest.mark.parametrize(("cls", "data", "expected"), DATA.values(), ids=DATA)
def test_a_kind_is_never_taken_for_a_key(cls, data, expected):
    """The tags by which pydantic tells alternatives apart are in no message."""
    with pytest.raises(SpecError) as caught:
        validate(cls, Document("mine", data))
    assert expected in [line.strip()[: len(expected)] for line in str(caught.value).splitlines()]


UNKNOWN = {
    "workload.rate": 'unknown key; did you mean "arrivals.rate"?',
    "max_num_seqs": 'unknown key; did you mean "serving.max_num_seqs"?',
    "kv": 'unknown key; did you mean "dtype.kv"?',
    "workload.p99": 'unknown key; did you mean "prompt_tokens.p99"?',
    "serving.max_num_seq": 'unknown key; did you mean "max_num_seqs"?',
    "serving.pipeline_parallel_size": "unknown key; pipeline parallelism is not simulated; leave it out",
    "pipeline_parallel_size": "unknown key; pipeline parallelism is not simulated; leave it out",
    "serving.kv_cache_dtype": "unknown key; the scenario says how KV is stored: dtype: {kv: fp8}",
    "serving.nothing_like_it": "unknown key",
}
"""Keys that are not there, and what is said of each."""


@pytest.mark.parametrize(("key", "message"), UNKNOWN.items(), ids=UNKNOWN)
def test_an_unknown_key_is_answered_with_what_to_write(key, message):
    """By the key of that name elsewhere, what stands for an option of engines, or the nearest one."""
    document = Document("mine", {"workload": {}, "serving": {}})
    document.override(key, 1)
    with pytest.raises(SpecError) as caught:
        validate(Scenario, document)
    (line,) = (line for line in str(caught.value).splitlines() if f" {key}: " in line)
    assert f" {key}: {message}" in line


@pytest.mark.parametrize("name", OF_ENGINES)
def test_what_is_said_of_options_of_engines_is_no_key(name):
    """Once such a key exists, there is nothing to say of it."""
    assert not unknown_key(name, [Scenario]).endswith("?")
    assert name not in ServingSpec.model_fields
