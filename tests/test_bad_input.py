"""Whatever the user writes, the answer is a result or one clear message: never a traceback."""

import copy
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import scenario_data
from gpusim.errors import GpusimError, SimulationError, SpecError
from gpusim.plan import open_scenario, plan_document
from gpusim.simulation import Simulation
from gpusim.spec.document import Document
from gpusim.sweeps import check_points

BASE = """\
schema: 1
topology: single-gpu
model: tiny
serving: {max_num_seqs: 8, max_num_batched_tokens: 64}
workload:
  arrivals: {kind: constant, rate: 2000 /s}
  prompt_tokens: {kind: fixed, value: 40}
  output_tokens: {kind: fixed, value: 6}
  num_requests: 10
"""


def message_for(folder, text=BASE, *, encoding="utf-8") -> str:
    """Return what the user is told about a scenario."""
    path = folder / "mine.yaml"
    path.write_text(text, encoding=encoding)
    with pytest.raises(GpusimError) as caught:
        Simulation(plan_document(open_scenario(path))).run()
    return str(caught.value).replace(str(folder), ".")


def changed(old: str, new: str) -> str:
    assert old in BASE
    return BASE.replace(old, new)


WRONG = {
    "unknown key": (
        ("max_num_seqs: 8", "max_num_seq: 8"),
        'line 4: serving.max_num_seq: unknown key; did you mean "max_',
    ),
    "bare number": (("2000 /s", "2000"), "line 6: workload.arrivals.rate: write the unit, e.g. 2000 /s"),
    "NaN": (("2000 /s", ".nan"), "line 6: workload.arrivals.rate: must be a finite number, not nan"),
    "NaN with a unit": (("2000 /s", "nan /s"), "'nan /s' is not a number with a unit; write it like 5.5 /s"),
    "infinite": (("2000 /s", "1e400 /s"), "must be a finite number, not inf"),
    "negative quantity": (("2000 /s", "-2000 /s"), "line 6: workload.arrivals.rate: must be more than 0, not -2000 /s"),
    "negative count": (("10\n", "-10\n"), "line 9: workload.num_requests: must be at least 1, not -10"),
    "wrong unit": (("2000 /s", "2000 GB"), "'GB' is not a unit of per second; use one of /s, k/s"),
    "padding where nothing is padded": (
        ("{max", "{pad: true, max"),
        "pad is for scheduler: static, continuous has noth",
    ),
    "a budget below its decodes": (
        ("max_num_batched_tokens: 64", "max_num_batched_tokens: 4, scheduler: sarathi"),
        "max_num_batched_tokens = 4 is below max_num_seqs = 8",
    ),
    "prefix caching with v0": (
        ("{max", "{scheduler: vllm-v0, enable_prefix_caching: true, max"),
        "not yet: prefix caching with vllm-v0; leave it out, or use scheduler: continuous",
    ),
    "priority with v0": (
        ("{max", "{scheduler: vllm-v0, scheduling_policy: priority, max"),
        "not yet: priority with vllm-v0, which preempts for requests that wait; use fcfs, or vllm-v1",
    ),
    "no room for the longest": (
        ("{max", "{scheduler: orca, num_gpu_blocks_override: 20, max_model_len: 400, max"),
        "orca reserves max_model_len = 400 tokens for every request, 25 KV blocks of the 20 there are; lower max_model_len",
    ),
    "TP does not divide": (
        ("{max", "{tensor_parallel_size: 3, max"),
        "3 does not divide num_attention_heads = 8 of tiny",
    ),
    "TP does not divide, on one GPU": (
        ("{max", "{tensor_parallel_size: 3, max"),
        "and the MLP be divided); try 1",
    ),
    "TP does not divide, on eight": (
        (
            "single-gpu\nmodel: tiny\nserving: {max",
            "dgx-h100\nmodel: llama-3.1-8b\nserving: {tensor_parallel_size: 3, max",
        ),
        "try 1, 2, 4, 8",
    ),
    "TP does not divide, of replicas": (
        (
            "single-gpu\nmodel: tiny\nserving: {max",
            "dgx-h100\nmodel: llama-3.1-8b\nserving: {tensor_parallel_size: 3, data_parallel_size: 2, max",
        ),
        "try 1, 2, 4",
    ),
    "too few GPUs": (("{max", "{tensor_parallel_size: 2, max"), "2 GPUs are needed, single-gpu has 1; lower it or use"),
    "weights too large": (
        ("tiny", "llama-2-70b"),
        "need 128.5 GiB and workspace 0.686 GiB on each GPU, gpu_memory_utilization = 0.9 of 79.25 GiB leaves 71.32 GiB; use a",
    ),
    "no request fits": (
        ("value: 40", "value: 4000"),
        "line 5: workload: the shortest request has 4006 tokens, serving.max_model_len is 2048; shorten",
    ),
    "topology name": (
        ("single-gpu", "singel-gpu"),
        "line 2: topology: 'singel-gpu': unknown topology; did you mean \"single-gpu\"?",
    ),
    "model name": (
        ("tiny", "tinny"),
        "line 3: model: 'tinny': unknown model; did you mean \"tiny\"? (or write a path)",
    ),
    "dtype": (
        ("model:", "dtype: {kv: bf61}\nmodel:"),
        "line 3: dtype.kv: 'bf61': unknown value; did you mean \"bf16\"?",
    ),
    "kind": (
        ("kind: constant", "kind: constnat"),
        "arrivals.kind: 'constnat': unknown kind; did you mean \"constant\"?",
    ),
    "no kind": (
        ("{kind: constant, rate: 2000 /s}", "{}"),
        "arrivals.kind: this key is required: at_once, closed, constant",
    ),
    "not a file": (("single-gpu", "./none.yaml"), "line 2: topology: no such file: ./none.yaml"),
    "a folder": (("single-gpu", "./"), "line 2: topology: ./: this is a folder; name a file in it"),
    "GraphML": (("single-gpu", "m.graphml"), "topology: m.graphml: not yet: topologies in GraphML"),
    "node-link JSON": (("single-gpu", "m.json"), "topology: m.json: not yet: topologies in node-link JSON"),
    "NCCL XML": (("single-gpu", "m.xml"), "topology: m.xml: not yet: topologies in NCCL XML"),
    "ranks": (("model:", "ranks: foldde\nmodel:"), "line 3: ranks: 'foldde': unknown value; did you mean \"folded\"?"),
    "prefix cache": (
        ("{max", "{enable_prefix_caching: true, scheduler: static, max"),
        "enable_prefix_caching: the static scheduler gives a request all of its blocks at once and shares none",
    ),
    "sampling": (("{max", "{sampling: {top_p: 1.9}, max"), "serving.sampling.top_p: must be at most 1, not 1.9"),
    "engine profile": (("{max", "{engine: vlm, max"), "serving.engine: 'vlm': unknown engine; did you mean \"vllm\"?"),
    "newer schema": (("schema: 1", "schema: 2"), "line 1: schema: schema 2 is newer than this gpusim reads (1)"),
    "no schema": (("schema: 1\n", ""), "schema: this key is required; write schema: 1"),
    "duplicate key": (("model: tiny", "model: tiny\nmodel: tiny"), 'line 4: not YAML: found duplicate key "model"'),
    "YAML syntax": (("value: 40}", "value: 40"), "line 8: not YAML: expected ',' or '}'"),
    "tab": (("  num_", "\tnum_"), "line 9: not YAML: found character '\\t'"),
    "two documents": (("model: tiny", "---\nmodel: tiny"), "not YAML: but found another document"),
    "null": (("single-gpu", ""), "line 2: topology: expected a name or a mapping, not nothing"),
    "list for a name": (("tiny", "[tiny]"), "line 3: model: expected a name or a mapping, not a list"),
    "workload is a number": (
        ("workload:", "workload: 5\nslo:"),
        "line 5: workload: expected a name or a mapping, not 5",
    ),
    "engines are numbers": (("model:", "engines: [1]\nmodel:"), "line 3: engines[0]: expected a mapping, not 1"),
    "sweep is a number": (("model:", "sweep: 3\nmodel:"), "line 3: sweep: expected a mapping or a list, not 3"),
    "value of a sweep": (("model:", "sweep: {seed: 3}\nmodel:"), "line 3: sweep.seed: expected a list, not 3"),
    "background is a mapping": (
        ("model:", "background: {}\nmodel:"),
        "line 3: background: expected a list, not a mapping",
    ),
    "relative_to is a name": (("model:", "relative_to: x\nmodel:"), "line 3: relative_to: expected a mapping, not 'x'"),
    "attention": (("model:", "attention: gqa:3\nmodel:"), "line 3: attention: 3 KV heads do not divide num_heads = 8"),
    "background from": (
        ("model:", "background:\n- kind: copy\n  from: gpu7\n  to: cpu0\n  size: 1 GB\nmodel:"),
        "line 5: background[0].from: gpu7: unknown; single-gpu has gpu0, cpu0",
    ),
    "engine on no GPU": (
        ("model:", "engines: [{name: a, gpus: [gpu9]}]\nmodel:"),
        "line 3: engines[0].gpus: gpu9: no such GPU in single-gpu, which has gpu0",
    ),
    "two engines on a GPU": (
        ("model:", "engines: [{name: a, gpus: [gpu0]}, {name: b, gpus: [gpu0]}]\nmodel:"),
        "line 3: engines[1].gpus: gpu0 already belongs to engine 'a'",
    ),
    "workload name": (
        ("workload:", "workload: chatt\nslo:"),
        "line 5: workload: 'chatt': unknown workload; did you mean \"chat\"?",
    ),
    "trace in no format": (
        ("workload:", "workload: {trace: t.parquet}\nslo:"),
        "line 5: workload: trace t.parquet: .parquet is not a trace format; known: .csv, .jsonl, .json",
    ),
    "merged workload without a length": (
        ("workload:", "workload: {merge: [chat, {extends: code, prompt_tokens: null}]}\nslo:"),
        "line 5: workload.merge[1]: prompt_tokens must be stated (or a trace)",
    ),
    "merged workload that does not exist": (
        ("workload:", "workload: {merge: [chat, cod]}\nslo:"),
        "line 5: workload.merge[1]: 'cod': unknown workload; did you mean \"code\"?",
    ),
    "sessions in a trace": (
        ("workload:", "workload: {trace: t.csv, sessions: {turns: {kind: fixed, value: 3}}}\nslo:"),
        "line 5: workload: a trace states the turns of its sessions; only think_time may be added",
    ),
    "stage without a duration": (
        ("workload:", "workload: {arrivals: {kind: stages, stages: [{rate: 3 /s}]}}\nslo:"),
        "line 5: workload.arrivals.stages[0].duration: this key is required",
    ),
}
"""A change of `BASE`, and what the message must say."""


@pytest.mark.parametrize(("change", "expected"), WRONG.values(), ids=WRONG)
def test_each_mistake_is_named_with_its_line(tmp_path, change, expected):
    """One wrong thing gives a message with file, line, key and the way out."""
    message = message_for(tmp_path, changed(*change))
    assert message.startswith("./mine.yaml:")
    assert expected in message


NUMBERS = (-1, 0, 1, 3, 10**30, -0.5, 0.5, 1e300, float("nan"), float("inf"))
TEXTS = (
    "",
    "x",
    "2 s",
    "1 GB",
    "1e-300 /s",
    "1e300 s",
    "mqa",
    "tiny",
    "chat",
    "dgx-h100",
    "./x.yaml",
    "/",
    "\0",
    "٣",
    "[",
)
SCALARS = st.sampled_from((None, True, *NUMBERS, *TEXTS))
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["extends", "kind", "name", "rate", "0", "x", "label", "trace"]), inner, max_size=2
        )
    ),
    max_leaves=4,
)
WHOLE = scenario_data(
    name="all",
    engines=[{"name": "a", "gpus": ["gpu0"], "dtype": {"kv": "fp8"}, "serving": {"block_size": 8}}],
    background=[
        {"kind": "copy", "from": "gpu0", "to": "cpu0", "size": "1 MB", "period": "1 ms"},
        {"kind": "all_reduce", "gpus": ["gpu0", "gpu1"], "size": "1 MB", "count": 2},
    ],
    topology={"extends": "dgx-a100-80gb", "name": "mine"},
    measure={"warmup": "0 s"},
    slo={"itl": "50 ms"},
    sweep={"attention": ["mha", {"label": "x", "attention": "mqa", "seed": 3}]},
    relative_to={"attention": "mha"},
    published=[{"when": {"attention": "mha"}, "itl": "3 ms", "source": "here"}],
    serving__sampling={"top_p": 1.0},
)


def paths(data, above=()):
    """Return the paths of all keys in nested data."""
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    found = [(*above, key) for key, _ in children]
    return found + [path for key, child in children for path in paths(child, (*above, key))]


@st.composite
def mutated(draw):
    """A scenario with everything in it, of which some keys are replaced, removed or joined by strange ones."""
    data = copy.deepcopy(WHOLE)
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(paths(data) or [("x",)]))
        node = data
        for key in above:
            node = node[key]
        how = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if how == "remove" and isinstance(node, dict):
            node.pop(last)
        elif how == "add" and isinstance(node, dict):
            node[draw(st.sampled_from(["extends", "kind", "modle", "seed", "5"]))] = draw(VALUES)
        elif node:
            node[last] = draw(VALUES)
    return data


@settings(max_examples=150)
@given(data=mutated())
def test_any_scenario_is_planned_or_refused_in_words(data):
    """A scenario damaged anywhere either plans or is refused by an error of ours, in our words."""
    document = Document("damaged", data)
    try:
        engines = plan_document(copy.deepcopy(document)).engines
        check_points(document)
    except GpusimError as error:
        message = str(error)
    else:
        message = f"damaged:\n  none, {len(engines)} engine"
    assert re.search(r"damaged:\n? *\S.*", message)
    assert "nput should" not in message


TIMES = ("1e-300 /s", "1e-12 /s", "1e300 /s")


@pytest.mark.parametrize("rate", TIMES)
def test_rates_beyond_the_clock_are_no_crash(rate):
    """An arrival later than the clock can count ends in an error, one too early to count at the first tick."""
    simulation = Simulation(plan_document(Document("d", scenario_data(workload__arrivals__rate=rate))))
    if rate == "1e300 /s":
        assert simulation.run().summary()["requests"]["finished"] == 10
    else:
        with pytest.raises(SimulationError, match="longer than a simulation can last"):
            simulation.run()


def test_all_problems_of_a_file_come_at_once(tmp_path):
    """Problems that different layers find stand in one message, in the order of their lines."""
    text = (
        changed("single-gpu", "singel-gpu").replace("{max", "{tensor_parallel_size: 3, max").replace("2000 /s", "2000")
    )
    message = message_for(tmp_path, text + "slo: {tfft: 1 s}\nattention: mla\nranks: some\n")
    lines = [line.split(": ")[0].strip() + " " + line.split(": ")[1] for line in message.splitlines()[1:]]
    assert lines == [
        "line 2 topology",
        "line 4 serving.tensor_parallel_size",
        "line 6 workload.arrivals.rate",
        "line 10 slo.tfft",
        "line 11 attention",
        "line 12 ranks",
    ]


def test_a_missing_key_hides_no_other_problem(tmp_path):
    """Without schema and workload the rest is checked even so."""
    message = message_for(
        tmp_path, "topology: single-gpu\nmodel: tinny\nbackground: [{kind: copy, from: a, to: gpu0, size: 1 GB}]\n"
    )
    assert "schema: this key is required" in message
    assert "workload: this key is required" in message
    assert "line 2: model: 'tinny': unknown model" in message
    assert "line 3: background[0].from: a: unknown" in message


def test_problems_name_the_file_they_are_in(tmp_path):
    """Wrong keys of an extended file, a topology file and the command line are told apart."""
    (tmp_path / "base.yaml").write_text(changed("2000 /s", "2000") + "slo:\n  tfft: 1 s\n", encoding="utf-8")
    (tmp_path / "machine.yaml").write_text("name: m\nnodes: []\nlinkz: []\n", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\ntopology: ./machine.yaml\n", encoding="utf-8")
    document = open_scenario(tmp_path / "mine.yaml", {"workload.num_requests": 0})
    with pytest.raises(SpecError) as caught:
        plan_document(document)
    assert str(caught.value).replace(str(tmp_path), ".").splitlines() == [
        "./mine.yaml:",
        "  set by --set: workload.num_requests: must be at least 1, not 0",
        "  line 2: topology: ./machine.yaml:",
        "    line 2: nodes: must have 1 or more entries, not 0",
        '    line 3: linkz: unknown key; did you mean "links"?',
        "  ./base.yaml, line 6: workload.arrivals.rate: write the unit, e.g. 2000 /s",
        '  ./base.yaml, line 11: slo.tfft: unknown key; did you mean "ttft"?',
    ]


def test_the_device_of_a_node_is_named_by_its_own_key(tmp_path):
    """Not by that of the whole machine: what is set has no line of the file."""
    (tmp_path / "d.yaml").write_text("extends: l40s\nmemory: {capacity: 48}\n", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(BASE, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        plan_document(open_scenario(tmp_path / "mine.yaml", {"topology.nodes.0.device": "d.yaml"}))
    assert str(caught.value).replace(str(tmp_path), ".").splitlines() == [
        "./mine.yaml:",
        "  set by --set: topology.nodes[0].device: ./d.yaml:",
        "    line 2: memory.capacity: write the unit, e.g. 48 GiB (or B, KiB, MiB, GB)",
    ]


def test_a_machine_in_two_parts_is_named(tmp_path):
    """GPUs that cannot reach each other are a topology problem with the way out."""
    (tmp_path / "m.yaml").write_text(
        "name: m\nnodes: [{kind: gpu, name: gpu, count: 2, device: l40s}]\n", encoding="utf-8"
    )
    message = message_for(tmp_path, changed("single-gpu", "./m.yaml"))
    assert "line 2: topology: topology m:\n    links: gpu0 cannot reach gpu1; no link joins the parts" in message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1,xx,5", "line 3: prompt_tokens is 'xx'"),
        ("1,5", "line 3: 2 fields where the header has 3"),
        ("-1,5,5", "line 3: arrival_s is '-1'"),
    ],
)
def test_a_malformed_trace_line_is_named(tmp_path, line, said):
    """File and line of the trace are in the message."""
    (tmp_path / "t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n0,5,5\n{line}\n", encoding="utf-8")
    message = message_for(tmp_path, BASE[: BASE.index("workload:")] + "workload: {trace: t.csv}\n")
    assert message.startswith(f"./t.csv:\n  {said}")


def test_a_request_too_long_is_rejected_and_the_rest_run(tmp_path):
    """One request of a trace is longer than the model can: it is counted and named, the others finish."""
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,5,5\n1,5000,5\n2,5,5\n", encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(BASE[: BASE.index("workload:")] + "workload: {trace: t.csv}\n", encoding="utf-8")
    result = Simulation(plan_document(open_scenario(path))).run()
    summary = result.summary()
    assert (summary["requests"]["finished"], summary["requests"]["rejected"]) == (2, 1)
    assert "max_model_len = 2048" in summary["warnings"][0]
    assert result.requests.filter(status="rejected")["request"].to_list() == [1]


def test_if_none_can_run_that_is_an_error(tmp_path):
    """A trace of only too long requests ends in an error that says why."""
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,5000,5\n", encoding="utf-8")
    message = message_for(tmp_path, BASE[: BASE.index("workload:")] + "workload: {trace: t.csv}\n")
    assert message.startswith("no request can run: 1 rejected: ")
