"""Everything gpusim knows by name is sound, sourced, and agrees with data sheets and published figures."""

import csv
import math
import re
from dataclasses import replace

import networkx as nx
import pytest

from gpusim.hardware.graph import build_graph
from gpusim.hardware.routes import Routes
from gpusim.runtime.rings import rings
from gpusim.spec.device import ChannelMemorySpec, DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.model import ModelSpec
from gpusim.spec.names import extend, locate, names, read
from gpusim.spec.topology import GpuNodeSpec, TopologySpec
from gpusim.spec.yaml_files import parse_document
from gpusim.units import GB, TB, GiB, TiB, ns, us
from helpers import REPOSITORY, shared_data

MEASURED = ("a100-sxm-80gb", "b200-sxm", "h100-sxm", "rtx-pro-6000-server")
SWITCHED = {
    "dgx-a100-40gb": 1.1 * us,
    "dgx-a100-80gb": 1.1 * us,
    "dgx-h100": 2.2 * us,
    "hgx-b200": 2.2 * us,
    "hgx-b300": 2.2 * us,
    "hgx-h200": 2.2 * us,
}
"""Machines whose GPUs meet in NVSwitches, with the latency from GPU to GPU."""
DATA_SHEET = {
    "a100-sxm-80gb": "A100-SXM4-80GB",
    "b200-sxm": "B200-SXM-180GB",
    "h100-sxm": "H100-SXM5-80GB",
    "l40s": "L40S",
    "rtx-4090": "RTX-4090",
    "v100-sxm-32gb": "V100-SXM2-32GB",
    "a100-sxm-40gb": "A100-SXM4-40GB",
    "a100-pcie-80gb": "A100-PCIe-80GB",
    "h100-pcie": "H100-PCIe-80GB",
    "h100-nvl": "H100-NVL-94GB",
    "h200-sxm": "H200-SXM-141GB",
    "gh200-96gb": "GH200-96GB",
    "gb200": "GB200-per-GPU",
    "b300-sxm": "B300-SXM-288GB",
    "gb300": "GB300-per-GPU",
    "a30": "A30",
    "a40": "A40",
    "a10": "A10",
    "l4": "L4",
    "t4": "T4",
    "mi250x": "MI250X",
    "mi300x": "MI300X",
    "mi325x": "MI325X",
    "mi355x": "MI355X",
    "gaudi-2": "Gaudi2",
    "gaudi-3": "Gaudi3",
    "tpu-v2": "TPUv2",
    "tpu-v4": "TPUv4",
    "tpu-v5e": "TPUv5e",
    "tpu-v5p": "TPUv5p",
    "tpu-v6e": "TPUv6e",
}
PIN_GBIT = {
    "HBM2": (64, 1.7, 2.5),
    "HBM2e": (64, 2.9, 3.7),
    "HBM3": (32, 4.9, 6.5),
    "HBM3e": (32, 5.8, 9.3),
    "GDDR6": (16, 10, 20),
    "GDDR6X": (16, 19, 23),
    "GDDR7": (8, 24, 32),
}
"""Bits of a channel, and the range of a pin's rate in Gbit/s, by DRAM standard."""
HOST_LINKS = {"pcie3": 15.75 * GB, "pcie4": 31.51 * GB, "pcie5": 63.02 * GB, "pcie6": 118 * GB, "c2c": 450 * GB}
"""Peak per direction of 16 lanes, or of NVLink-C2C."""
EQUIVALENT = ("gaudi", "tpu")
"""Families without SMs: theirs count what multiplies as much as one of an A100."""


def device(name: str) -> DeviceSpec:
    return validate(DeviceSpec, read("device", name))


def model(name: str) -> ModelSpec:
    return validate(ModelSpec, read("model", name))


def topology(name: str) -> TopologySpec:
    return validate(TopologySpec, read("topology", name))


def graph_of(name: str) -> "nx.MultiDiGraph[str]":
    return build_graph(topology(name))


def nvlinks(name: str) -> "nx.Graph[str]":
    """Return the NVLinks between GPUs, weighted by how many 25 GB/s links each is."""
    found: nx.Graph[str] = nx.Graph()
    for a, b, attributes in graph_of(name).edges(data=True):
        if attributes["link"].kind == "nvlink":
            found.add_edge(a, b, weight=round(attributes["link"].bandwidth / (25 * GB)))
    return found


@pytest.mark.parametrize("name", names("device"))
def test_devices_are_sound(name):
    """Every device file validates, is called like its file and says where its numbers are from."""
    spec = device(name)
    assert spec.name == name
    assert spec.source


@pytest.mark.parametrize("name", names("model"))
def test_models_are_sound(name):
    """Every model file validates, is called like its file and says where its numbers are from."""
    spec = model(name)
    assert spec.name == name
    assert spec.source


@pytest.mark.parametrize("name", names("topology"))
def test_topologies_are_sound(name):
    """Every topology validates, is in one piece and knows the devices it names."""
    spec = topology(name)
    assert spec.name == name
    assert nx.is_weakly_connected(build_graph(spec))
    for node in spec.nodes:
        if isinstance(node, GpuNodeSpec) and isinstance(node.device, str):
            assert device(node.device).name == node.device


@pytest.mark.parametrize("name", names("device"))
def test_every_hardware_number_carries_its_source(name):
    """In the hardware part of a device file no number stands without a comment on its line."""
    hardware = locate("device", name).read_text().split("\nlaws:")[0].split("\nmemory:")[1]
    numbers = [line for line in hardware.splitlines() if re.search(r":\s+[0-9]", line)]
    assert len(numbers) >= 7
    assert [line for line in numbers if "#" not in line] == []


@pytest.mark.parametrize(("name", "row"), DATA_SHEET.items())
def test_devices_agree_with_the_data_sheets(name, row):
    """Bandwidth, capacity, channels, SMs, PCIe and rates are those of the table of data sheets: 1 %, TPU v4 memory 2.5."""
    with shared_data("hardware/devices.csv").open() as file:
        sheet = next(line for line in csv.DictReader(file) if line["device"] == row)
    spec = device(name)
    rate = spec.compute.peak.get("bf16", spec.compute.peak.get("fp16"))
    ours = (spec.memory.bandwidth / GB, spec.memory.capacity / GiB, rate / 1e12, spec.link_bandwidth / GB)
    keys = ("mem_bw_GBps", "mem_capacity_GB", "bf16_dense_tflops", "scaleup_GBps_per_dir_total")
    assert ours == pytest.approx([float(sheet[key]) for key in keys], rel=0.025 if name == "tpu-v4" else 0.01)
    if isinstance(spec.memory, ChannelMemorySpec):
        assert (spec.memory.standard, spec.memory.channels) == (sheet["mem_type"], int(sheet["pseudo_channels"]))
    if spec.family not in EQUIVALENT:
        assert spec.compute.sm_count == int(sheet["sm_or_cu"])
    if spec.host_link != "c2c" and spec.family != "tpu":
        assert spec.host_link == f"pcie{sheet['pcie_gen_x16']}"


@pytest.mark.parametrize("name", names("device"))
def test_bandwidth_is_channels_times_width_times_rate(name):
    """A pin moves as many bits a second as its DRAM standard knows; what a file says of the rate agrees within 2 %."""
    memory = device(name).memory
    if isinstance(memory, ChannelMemorySpec) and name != "thread-gpu":
        bits, lowest, highest = PIN_GBIT[memory.standard]
        rate_gbit = memory.bandwidth * 8 / (memory.channels * bits) / 1e9
        assert lowest <= rate_gbit <= highest
        stated = re.search(r"bandwidth: .*peak, ([0-9.]+) Gbit/s a pin", locate("device", name).read_text())
        assert stated is None or rate_gbit == pytest.approx(float(stated[1]), rel=0.02)


@pytest.mark.parametrize("name", names("device"))
def test_peak_is_processors_times_clock(name):
    """An SM does a power of two of FLOP a cycle (some sheets quote lower clocks); where there are none, each counts 2,048."""
    spec = device(name)
    rate = spec.compute.peak.get("bf16", spec.compute.peak.get("fp16"))
    per_cycle = rate / (spec.compute.sm_count * spec.compute.boost_clock)
    if spec.family in EQUIVALENT:
        assert per_cycle == pytest.approx(2048, rel=0.01)
    else:
        assert per_cycle == pytest.approx(2 ** round(math.log2(per_cycle)), rel=0.15)


@pytest.mark.parametrize("name", names("device"))
def test_a_driver_shows_a_little_less(name):
    """What programs are shown is 92 to 100 % of the capacity, 91 where GDDR6 holds its own ECC bits."""
    assert 0.91 <= device(name).memory.visible <= 1


def test_editions_differ_in_memory_and_clock():
    """The Workstation Edition of RTX PRO 6000 has the same SMs and channels, at 28 Gbit/s a pin and a higher clock."""
    server, workstation = device("rtx-pro-6000-server"), device("rtx-pro-6000-workstation")
    assert server.compute.sm_count == workstation.compute.sm_count == 188
    assert server.memory.channels == workstation.memory.channels
    assert workstation.memory.bandwidth == 512 / 8 * 28 * GB > server.memory.bandwidth
    assert workstation.compute.boost_clock > server.compute.boost_clock


def test_a_die_is_half_of_a_package():
    """An MI250X is two of what software sees as GPUs."""
    package, die = device("mi250x"), device("mi250x-gcd")
    assert package.memory.capacity == 2 * die.memory.capacity
    assert package.memory.bandwidth == pytest.approx(2 * die.memory.bandwidth, rel=1e-3)
    assert package.compute.sm_count == 2 * die.compute.sm_count


@pytest.mark.parametrize("name", names("device"))
def test_narrower_types_are_not_slower(name):
    """Dense rates do not fall from fp32 to 16 bit to 8 bit, and sparse figures have not crept in (at most 4 x 16 bit)."""
    peak = device(name).compute.peak
    half = peak.get("bf16", peak.get("fp16"))
    assert peak.get("fp32", 0) < half
    assert all(half <= peak[dtype] <= 4 * half for dtype in ("fp8", "int8") if dtype in peak)


def test_volta_has_no_bf16():
    """The first tensor cores know fp16 only."""
    assert set(device("v100-sxm-32gb").compute.peak) == {"fp16", "fp32"}


def test_which_devices_are_measured():
    """Exactly these have laws of their own; all others get them by the default rule."""
    assert tuple(name for name in names("device") if device(name).laws is not None) == MEASURED


def laws_within(node, path=()):
    """Return the keys of every set of fitted values under *node*: the innermost blocks that state a number of their own."""
    if not isinstance(node, dict):
        return []
    inner = [law for key, value in node.items() for law in laws_within(value, (*path, key))]
    is_law = any(key in node for key in ("t0", "t_cta", "t_step"))
    return [".".join(path), *inner] if is_law else inner


@pytest.mark.parametrize("name", MEASURED)
def test_every_law_was_fitted_or_says_from_where_it_is(name):
    """Each stands in `laws.fits` with the error it left, or under a key of `laws.borrowed`; nothing else stands there."""
    laws = device(name).laws
    stated = laws_within(laws.model_dump(mode="json", exclude_none=True, exclude={"fits", "borrowed", "fitted_on"}))
    assert len(stated) == len(set(stated)) > 10
    borrowed = {law for law in stated for key in laws.borrowed if f"{law}.".startswith(f"{key}.")}
    assert [law for law in stated if law not in laws.fits and law not in borrowed] == []
    assert [law for law in laws.fits if law not in stated] == []
    assert [key for key in laws.borrowed if not any(f"{law}.".startswith(f"{key}.") for law in stated)] == []


@pytest.mark.parametrize("name", MEASURED)
def test_fits_left_an_error_on_shapes_kept_out(name):
    """No law was fitted on all there was: some shapes were not read by the fit, and the error on them is stated."""
    for fit in device(name).laws.fits.values():
        assert fit.rows >= fit.held_out_rows > 0
        assert 0 < fit.mape < 1
        assert 0 < fit.held_out_mape < 1


@pytest.mark.parametrize("name", names("device"))
def test_no_measured_row_is_in_a_device_file(name):
    """A law knows sizes: no id of a measured row and no language model's name stands in the file of a device."""
    text = locate("device", name).read_text().lower()
    assert re.findall(r"\b[a-z]+-[a-z0-9_]+-[0-9a-f]{8,}\b", text) == []
    families = {re.split(r"[-.0-9]", model_name)[0] for model_name in names("model")} - {"tiny"}
    assert len(families) > 10
    assert [family for family in families if re.search(rf"\b{family}", text)] == []


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llama-2-7b", 6_738_415_616),
        ("llama-2-70b", 68_976_648_192),
        ("llama-3.1-8b", 8_030_261_248),
        ("falcon-7b", 7_217_189_760 - 65024 * 4544),
    ],
)
def test_parameter_counts_are_the_published_ones(name, parameters):
    """Embeddings, projections, MLP and norms add up to the published count (Falcon's counts its embedding twice)."""
    spec = model(name)
    (group,) = spec.layers
    attention, mlp, hidden = group.attention, group.mlp, spec.hidden_size
    projections = hidden * attention.head_dim * 2 * (attention.num_heads + attention.num_kv_heads)
    feed_forward = hidden * mlp.intermediate_size * (3 if mlp.kind == "gated" else 2)
    norms = group.num_norms * hidden * (2 if group.norm_bias else 1)
    embeddings = spec.vocab_size * hidden * (1 if spec.tie_word_embeddings else 2)
    final_norm = hidden * (2 if spec.final_norm_bias else 1)
    assert group.count * (projections + feed_forward + norms) + embeddings + final_norm == parameters


@pytest.mark.parametrize(
    ("name", "kv_bytes"), [("llama-2-7b", 524_288), ("llama-2-70b", 327_680), ("llama-3.1-8b", 131_072)]
)
def test_kv_bytes_per_token(name, kv_bytes):
    """A key and a value of 16 bit per layer, KV head and dimension: the thread's 524,288 B for Llama-7B's MHA."""
    groups = model(name).layers
    assert sum(g.count * g.attention.num_kv_heads * g.attention.head_dim * 2 * 2 for g in groups) == kv_bytes


@pytest.mark.parametrize("name", [name for name in names("topology") if not name.startswith("thread")])
def test_every_gpu_has_a_host_to_offload_to(name):
    """Each GPU reaches a host with memory, at no more than its own PCIe generation, or NVLink-C2C, gives."""
    graph = graph_of(name)
    to_hosts = graph.edge_subgraph(edge for edge in graph.edges(keys=True) if edge[2] in {"pcie", "c2c"})
    hosts = [node for node, spec in graph.nodes(data="spec") if spec.kind == "host" and spec.memory is not None]
    assert hosts
    for gpu in (node for node, kind in graph.nodes(data="kind") if kind == "gpu"):
        fastest = HOST_LINKS[device(graph.nodes[gpu]["spec"].device).host_link]
        own = [link.bandwidth for *_, link in graph.out_edges(gpu, data="link") if link.kind in {"pcie", "c2c"}]
        assert len(own) == 1
        assert 0 < own[0] <= fastest
        assert any(nx.has_path(to_hosts, gpu, host) for host in hosts)


@pytest.mark.parametrize("name", ["h200-sxm", "tpu-v5e", "gb200", "t4", "b300-sxm"])
def test_a_device_names_a_machine_of_one(name):
    """Where a topology is asked for, a device's name means one of it, its host over the link that its file states."""
    one = topology(name)
    (link,) = one.links
    assert [node.kind for node in one.nodes] == ["gpu", "host"]
    assert one.nodes[0].device == name
    assert link.bandwidth == HOST_LINKS[device(name).host_link]


def test_a_topology_comes_before_a_device():
    """gh200-96gb is both: the file has the superchip's own CPU memory."""
    assert "superchip" in topology("gh200-96gb").source


@pytest.mark.parametrize(("name", "pairs"), [("mi300x-8gpu", 28), ("gaudi-3-8gpu", 28), ("gaudi-2-8gpu", 28)])
def test_meshes_join_every_pair(name, pairs):
    """Every two GPUs have links of their own, which together are what the data sheet says."""
    graph = graph_of(name)
    found = [(a, b, link.bandwidth) for a, b, link in graph.edges(data="link") if link.kind in {"xgmi", "network"}]
    assert len(found) == 2 * pairs
    total = sum(bandwidth for a, _, bandwidth in found if a == "gpu0")
    assert total == device(graph.nodes["gpu0"]["spec"].device).link_bandwidth


def test_nvl72_is_one_domain():
    """72 GPUs reach each other over NVLink alone at 900 GB/s; two share a Grace CPU, which is no way between them."""
    routes = Routes(graph_of("gb200-nvl72"))
    route = routes.route("gpu0", "gpu1")
    assert {routes.links[edge].kind for edge in route.edges} == {"nvlink"}
    assert len(route.edges) == 2 * 18
    assert sum(link.bandwidth for link in routes.links if link.source == "gpu71" and link.kind == "nvlink") == 900 * GB
    assert {link.target for link in routes.links if link.source == "gpu71" and link.kind == "c2c"} == {"cpu35"}


@pytest.mark.parametrize("name", ["tpu-v5e-4", "tpu-v5e-8"])
def test_slices_hold_a_ring(name):
    """Neighbours on a mesh close a ring, which an all-reduce then takes."""
    routes = Routes(graph_of(name))
    chips = [node for node in routes._forwards if node.startswith("tpu")]
    (share, ring), *_ = rings(chips, routes.direct_bandwidth)
    assert share > 0
    assert sorted(ring) == chips


@pytest.mark.parametrize("name", [*SWITCHED, "dgx-1v"])
def test_nvlink_ports_add_up_to_the_data_sheet(name):
    """All NVLinks of each GPU together carry what its data sheet says, in both directions."""
    graph = graph_of(name)
    gpus = [node for node, kind in graph.nodes(data="kind") if kind == "gpu"]
    expected = device(graph.nodes["gpu0"]["spec"].device).link_bandwidth
    assert len(gpus) == 8
    for gpu in gpus:
        for edges in (graph.out_edges(gpu, data="link"), graph.in_edges(gpu, data="link")):
            assert sum(link.bandwidth for *_, link in edges if link.kind == "nvlink") == expected


def test_dgx_h100_has_uneven_switches():
    """Each GPU's 18 links lie 4, 5, 5 and 4 on the four switches."""
    edges = nvlinks("dgx-h100")
    assert [edges["gpu5"][f"nvswitch{i}"]["weight"] for i in range(4)] == [4, 5, 5, 4]


@pytest.mark.parametrize(("name", "latency_s"), SWITCHED.items())
def test_switch_hops_add_up(name, latency_s):
    """From GPU to GPU the two hops through a switch take the one-way latency, over NVLink alone."""
    routes = Routes(graph_of(name))
    route = routes.route("gpu0", "gpu7")
    assert route.latency_s == pytest.approx(latency_s)
    assert {routes.links[edge].kind for edge in route.edges} == {"nvlink"}


@pytest.mark.parametrize(
    ("name", "latency_s"), [("single-gpu", 800 * ns), ("dgx-a100-80gb", 800 * ns), ("dgx-h100", 600 * ns)]
)
def test_host_latency_does_not_depend_on_switches(name, latency_s):
    """From a GPU to its own CPU takes the latency of its PCIe generation, with or without a switch between."""
    assert Routes(graph_of(name)).route("gpu0", "cpu0").latency_s == pytest.approx(latency_s)


def test_cube_mesh_is_the_measured_one():
    """DGX-1V's NVLinks are those of a public `nvidia-smi topo -m` matrix, up to the numbering of the GPUs."""
    mesh = nvlinks("dgx-1v")
    assert all(degree == 6 for _, degree in mesh.degree(weight="weight"))
    lines = shared_data("topology_samples/nvsmi_8x_v100_sxm2_hybrid_cube_mesh.txt").read_text().splitlines()
    rows = [line.split("\t")[1:9] for line in lines if line.startswith("GPU")]
    cells = ((i, j, cell) for i, row in enumerate(rows) for j, cell in enumerate(row) if cell.startswith("NV"))
    measured = nx.Graph((i, j, {"weight": int(cell[2:])}) for i, j, cell in cells)
    assert nx.is_isomorphic(mesh, measured, edge_match=lambda a, b: a["weight"] == b["weight"])


def test_pcie_pairs_share_one_uplink():
    """In the PCIe box all that leaves a pair of GPUs passes one port, which is the narrowest part of the way."""
    routes = Routes(graph_of("pcie-4gpu-2root"))
    used = [[routes.links[edge].name for edge in routes.route(gpu, "gpu2").edges] for gpu in ("gpu0", "gpu1")]
    assert set(used[0]) & set(used[1]) >= {"pcie0->cpu0:pcie"}
    capacity = {link.name: capacity for link, capacity in zip(routes.links, routes.capacity, strict=True)}
    assert capacity["pcie0->cpu0:pcie"] == min(capacity[name] for name in used[0])


@pytest.mark.parametrize(("name", "held"), [("thread-node", 640 * GiB), ("thread-node-large", 64 * TiB)])
def test_the_thread_reads_its_neighbours_at_1600_gb_per_s(name, held):
    """gpu0's one downlink carries 1.6 TB/s, less than its neighbours can give, who hold the thread's 549.8 GB."""
    graph = graph_of(name)
    downlinks = [link for *_, link in graph.in_edges("gpu0", data="link")]
    pools = [spec.memory for _, spec in graph.nodes(data="spec") if spec.kind == "memory"]
    assert [link.bandwidth * link.efficiency for link in downlinks] == [1.6 * TB]
    assert sum(pool.bandwidth for pool in pools) == pytest.approx(12 * TB)
    assert sum(pool.capacity for pool in pools) == held > 65536 * 16 * 524_288


def test_examples_in_the_documentation_are_sound():
    """The files that docs/catalog.md shows are valid as they stand."""
    text = (REPOSITORY / "docs" / "catalog.md").read_text()
    documents = [
        parse_document(block, "docs/catalog.md", REPOSITORY)
        for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    ]
    rtx_6000_ada, experts, two_cards = documents
    sizes = {"schema": 1, "name": "v3", "hidden_size": 7168, "vocab_size": 129280, "max_model_len": 163840}
    shown = validate(ModelSpec, replace(experts, data=sizes | experts.data))
    known = model("deepseek-v3").layers
    assert [group.attention for group in shown.layers] == [group.attention for group in known]
    extend(rtx_6000_ada, "device")
    assert validate(DeviceSpec, rtx_6000_ada).memory.bandwidth == 960 * GB
    assert set(build_graph(validate(TopologySpec, two_cards))) == {"gpu0", "gpu1", "cpu0"}
