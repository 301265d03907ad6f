"""Names, paths and what extends what."""

import json
from pathlib import Path

import pytest

from gpusim.errors import SpecError
from gpusim.machine import read_topology
from gpusim.spec.document import Place
from gpusim.spec.names import is_path, locate, names, read
from gpusim.stated import read_model

CONFIG = {
    "model_type": "llama",
    "hidden_size": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 512,
    "vocab_size": 1000,
    "max_position_embeddings": 2048,
}


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "expected"), [("tiny", False), ("llama-3.1-8b", False), ("a/b", True), ("m.yml", True)]
)
def test_what_is_a_path(name, expected):
    """A slash or a known ending makes a path; a dot in a name does not."""
    assert is_path(name) is expected


def test_a_path_is_relative_to_the_file_that_says_it(tmp_path, monkeypatch):
    """The folder of the file comes first, the working directory second."""
    write(tmp_path, "sub/m.yaml", "a: 1\n")
    monkeypatch.chdir(tmp_path)
    assert locate("model", "m.yaml", tmp_path / "sub") == tmp_path / "sub" / "m.yaml"
    assert locate("model", "sub/m.yaml", Path("elsewhere")) == Path("sub/m.yaml")


@pytest.mark.parametrize("kind", ["device", "model", "topology", "workload", "example"])
def test_unknown_names_are_corrected(kind):
    """A slip in a name gets the name that was meant."""
    known = names(kind)[0]
    with pytest.raises(SpecError, match=f"unknown {kind}; did you mean"):
        locate(kind, known[:-1])


def test_a_file_fills_in_what_it_extends(tmp_path):
    """Own keys win over those of the base, through several files, and problems name the file they are in."""
    write(tmp_path, "base.yaml", "model: tiny\nserving: {block_size: 8,\n  max_num_seqs: 4}\n")
    write(tmp_path, "middle.yaml", "extends: base.yaml\nserving: {max_num_seqs: 5}\n")
    top = write(tmp_path, "top.yaml", "extends: ./middle.yaml\nseed: 3\n")
    found = read("example", str(top))
    assert found.data == {"seed": 3, "serving": {"block_size": 8, "max_num_seqs": 5}, "model": "tiny"}
    assert found.place_of(("serving", "block_size")) == Place(str(tmp_path / "base.yaml"), 2)


def test_paths_in_a_base_stay_relative_to_it(tmp_path):
    """A scenario elsewhere that extends one finds the files that one names."""
    write(tmp_path, "there/t.csv", "")
    write(tmp_path, "there/base.yaml", "workload: {trace: t.csv}\nname: t.csv\n")
    top = write(tmp_path, "here/top.yaml", "extends: ../there/base.yaml\n")
    found = read("example", str(top)).data
    assert found == {"workload": {"trace": str(tmp_path / "there" / "t.csv")}, "name": "t.csv"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: none.yaml\n", "line 1: extends: no such file: none.yaml"),
        ("a: 1\nextends: [x]\n", "line 2: extends: expected a name or a path, not a list"),
        ("extends: top.yaml\n", "extends itself"),
        ("extends: chatt\n", 'unknown example; did you mean "chat"?'),
    ],
)
def test_extending_nothing_is_an_error(tmp_path, text, message):
    """What cannot be extended is named with the line of the key."""
    top = write(tmp_path, "top.yaml", text)
    with pytest.raises(SpecError) as caught:
        read("example", str(top))
    assert message in str(caught.value)


def test_a_model_folder_means_its_config(tmp_path):
    """A Hugging Face checkpoint is named by its folder, and extended like a model of the catalog."""
    write(tmp_path, "mine/config.json", json.dumps(CONFIG))
    assert read_model("./mine", tmp_path) == read_model("mine/config.json", tmp_path)
    write(tmp_path, "longer.yaml", "extends: mine/config.json\nmax_model_len: 9999\n")
    longer = read_model("./longer.yaml", tmp_path)
    assert (longer.max_model_len, longer.hidden_size, longer.num_layers) == (9999, 256, 2)


def test_a_model_folder_needs_no_slash(tmp_path, monkeypatch):
    """A folder with a config.json is found by its name, from the file or from here; names of the catalog come first."""
    write(tmp_path, "mine/config.json", json.dumps(CONFIG))
    write(tmp_path, "tiny/config.json", json.dumps(CONFIG))
    (tmp_path / "empty").mkdir()
    assert locate("model", "mine", tmp_path) == tmp_path / "mine" / "config.json"
    monkeypatch.chdir(tmp_path)
    assert locate("model", "mine", Path("elsewhere")) == Path("mine/config.json")
    assert locate("model", "tiny") != locate("model", "./tiny")
    for kind, name in (("model", "empty"), ("device", "mine")):
        with pytest.raises(SpecError, match=f"{name}: this is a folder"):
            locate(kind, name)


def test_a_model_folder_in_a_base_stays_relative_to_it(tmp_path):
    """As paths do."""
    write(tmp_path, "there/mine/config.json", json.dumps(CONFIG))
    write(tmp_path, "there/tiny/config.json", json.dumps(CONFIG))
    write(tmp_path, "there/base.yaml", "model: mine\nengines: [{model: tiny}]\n")
    top = write(tmp_path, "here/top.yaml", "extends: ../there/base.yaml\n")
    found = read("example", str(top)).data
    assert found == {"model": str(tmp_path / "there" / "mine"), "engines": [{"model": "tiny"}]}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("meta-llama/Llama-3.1-8B", 'no such file: meta-llama/Llama-3.1-8B; did you mean "llama-3.1-8b"?'),
        ("meta-llama/Llama-3.1-8B-Instruct", 'did you mean "llama-3.1-8b"?'),
        (
            "nobody/Nothing",
            "no such file: nobody/Nothing; gpusim downloads nothing: name a folder with the config.json",
        ),
        ("nowhere/config.json", "no such file: nowhere/config.json"),
    ],
)
def test_a_name_on_the_hub_is_answered_with_ours(name, message):
    """Models are known by their own name, without who published them; others need their config.json."""
    with pytest.raises(SpecError) as caught:
        locate("model", name)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "sub/t.csv.gz"])
def test_a_trace_is_no_workload_by_itself(name):
    """It is named inside one."""
    with pytest.raises(SpecError) as caught:
        locate("workload", name)
    assert str(caught.value) == f"{name}: this is a trace, not a workload; write workload: {{trace: {name}}}"


DEVICE = """\
name: mine
memory: {kind: aggregate, capacity: 48 GiB, bandwidth: 768 GB/s}
l2: 6 MiB
compute: {sm_count: 84, boost_clock: 1.8 GHz, peak: {bf16: 154.8 TFLOP/s}}
host_link: pcie5
"""


@pytest.mark.parametrize("text", [DEVICE, "extends: l40s\nname: mine\nhost_link: pcie5\n"], ids=["plain", "extends"])
def test_a_device_file_means_a_machine_of_one(tmp_path, text):
    """Where a topology is asked for, as the name of a device does."""
    write(tmp_path, "sub/d.yaml", text)
    machine = read_topology("sub/d.yaml", tmp_path)
    assert machine.name == machine.nodes[0].device.name == "mine"
    assert machine.links[0].bandwidth == read_topology("h100-pcie", tmp_path).links[0].bandwidth


def test_mistakes_in_a_device_file_are_its_own(tmp_path):
    """Also where it stands for a machine."""
    path = write(tmp_path, "d.yaml", DEVICE.replace("48 GiB", "48"))
    with pytest.raises(SpecError) as caught:
        read("topology", str(path))
    assert str(caught.value) == f"{path}:\n  line 2: memory.capacity: write the unit, e.g. 48 GiB (or B, KiB, MiB, GB)"


def test_mistakes_in_the_device_of_a_node_are_named_by_way_of_it(tmp_path):
    """Which node of which file names it."""
    write(tmp_path, "d.yaml", DEVICE.replace("48 GiB", "48"))
    write(
        tmp_path,
        "m.yaml",
        "name: m\nnodes:\n- {kind: gpu, name: a, device: l40s}\n- {kind: gpu, name: b, device: d.yaml}\n",
    )
    with pytest.raises(SpecError) as caught:
        read_topology("m.yaml", tmp_path)
    assert str(caught.value).replace(str(tmp_path), ".").splitlines() == [
        "./m.yaml:",
        "  line 4: nodes[1].device: ./d.yaml:",
        "    line 2: memory.capacity: write the unit, e.g. 48 GiB (or B, KiB, MiB, GB)",
    ]


@pytest.mark.parametrize(
    ("name", "format_"),
    [("m.graphml", "GraphML"), ("m.json", "node-link JSON"), ("a/m.xml", "NCCL XML"), ("m.txt", "nvidia")],
)
def test_formats_of_topologies_to_come(name, format_):
    """They are refused as such, whether or not the file is there."""
    with pytest.raises(SpecError, match=f"not yet: topologies in {format_}"):
        locate("topology", name)
