"""What differs between two scenarios."""

from gpusim.plan import open_scenario, plan_document
from gpusim.results.differences import differences


def gpu(name, bandwidth, device="a100"):
    """Return a node of a topology."""
    return {"name": name, "device": {"name": device, "memory": {"bandwidth": bandwidth}, "source": "sheet"}}


def lines(a, b):
    """Return the differences as they are printed."""
    return [str(found) for found in differences(a, b)]


def test_keys_are_named_by_their_path():
    """Entries of lists go by name; titles and sources do not count."""
    a = {"name": "old", "topology": {"nodes": [gpu("gpu0", "2 TB/s")]}, "seed": 0}
    b = {"name": "new", "topology": {"nodes": [gpu("gpu0", "1.9 TB/s")]}, "seed": 1, "dtype": "fp8"}
    assert lines(a, b) == [
        "topology.nodes.gpu0.device.memory.bandwidth: 2 TB/s → 1.9 TB/s",
        "seed: 0 → 1",
        "dtype: – → fp8",
    ]
    assert not lines(a, a)


def test_what_differs_alike_is_one_line():
    """Eight GPUs of another bandwidth are one difference."""
    a, b = ({"nodes": [gpu(f"gpu{i}", speed) for i in range(8)]} for speed in ("2 TB/s", "1 TB/s"))
    assert lines(a, b) == ["nodes.gpu0.device.memory.bandwidth: 2 TB/s → 1 TB/s (and 7 more alike)"]


def test_another_device_says_its_name_memory_and_processors():
    """It differs in every number: a line says how fast its memory is. A list of another length is shown whole."""
    assert lines({"n": [gpu("g", "2 TB/s")]}, {"n": [gpu("g", "3 TB/s", "h100")]}) == [
        "n.g.device: a100 → h100",
        "n.g.device.memory: 2 TB/s → 3 TB/s",
    ]
    assert lines({"n": [1]}, {"n": [1, 2]}) == ["n: [1] → [1, 2]"]


def resolved(**overrides):
    """Return the chat example with *overrides*, resolved."""
    keys = {key.replace("__", "."): value for key, value in overrides.items()}
    return plan_document(open_scenario("chat", keys)).resolved()


def test_another_machine_says_its_gpus_and_links():
    """From NVLink to PCIe the GPU is another one too: both are said, folded over eight GPUs."""
    found = lines(resolved(topology="dgx-h100"), resolved(topology="pcie-8x-h100"))
    assert found == [
        "topology: dgx-h100 → pcie-8x-h100",
        "topology.gpus: 8 × h100-sxm → 8 × h100-pcie",
        "topology.gpus.memory: HBM3, 80 GiB, 3.35 TB/s → HBM2e, 80 GiB, 2.039 TB/s",
        "topology.gpus.compute: 132 SMs, bf16 989.4 TFLOP/s → 114 SMs, bf16 756.5 TFLOP/s",
        "topology.links.gpu-nvswitch:nvlink: 450 GB/s a GPU, 82 % usable, 1.1 us → –",
        "topology.links.cpu-pcie:pcie: 8 × 63 GB/s, 91.4 % usable, 300 ns → 4 × 63 GB/s, 91.4 % usable, 300 ns",
        "topology.links.cpu-cpu:socket: 22 GB/s, 100 ns → 40 GB/s, 100 ns",
    ]


def test_only_links_differ_where_the_gpu_is_the_same():
    """The recipe for a question about links: the other machine with the first one's GPU."""
    same = {"topology": "pcie-8x-h100", "topology__nodes__0__device": "h100-sxm"}
    found = lines(resolved(topology="dgx-h100"), resolved(**same))
    assert not any("gpus" in line or "device" in line for line in found)
    assert found[1].startswith("topology.links.gpu-nvswitch:nvlink: 450 GB/s a GPU")


def test_a_machine_of_the_same_parts_is_only_another_name():
    """Names and sources change no number."""
    a = resolved(topology="dgx-h100")
    b = a | {"topology": a["topology"] | {"name": "ours", "source": "us"}}
    assert lines(a, b) == ["topology: dgx-h100 → ours"]


def test_meshes_count_what_leaves_a_gpu():
    """DGX-1V joins GPUs directly, some by one link and some by two: six a GPU."""
    found = lines(resolved(topology="dgx-h100"), resolved(topology="dgx-1v"))
    (mesh,) = [line for line in found if "gpu-gpu" in line]
    assert "– → 150 GB/s a GPU" in mesh
