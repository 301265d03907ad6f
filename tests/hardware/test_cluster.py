"""A whole machine: its parts by name, copies, utilisation."""

from __future__ import annotations

from typing import Any

import pytest

from gpusim.core.clock import Clock, ticks
from gpusim.core.probe import RecordingProbe
from gpusim.errors import TopologyError
from gpusim.hardware.cluster import Cluster
from gpusim.spec.device import DeviceSpec
from gpusim.spec.topology import TopologySpec
from gpusim.units import GB, MB, GiB, us

LINK = 50 * GB
SIZE = 64 * MB


def memory(bandwidth: float) -> dict[str, Any]:
    return {"kind": "aggregate", "capacity": 80 * GiB, "bandwidth": bandwidth}


def device(copy_engines: int = 1) -> DeviceSpec:
    compute = {"sm_count": 100, "boost_clock": 1e9, "peak": {"bf16": 300e12}}
    bank = memory(2000 * GB)
    return DeviceSpec.model_validate(
        {"name": "x", "memory": bank, "l2": 4e7, "compute": compute, "copy_engines": copy_engines}
    )


def topology(gpu_device: Any = "x") -> TopologySpec:
    """Two GPUs, a host with memory, one without, and a pool, all on one switch."""
    nodes = [
        {"kind": "gpu", "name": "gpu", "count": 2, "device": gpu_device},
        {"kind": "host", "name": "cpu", "memory": memory(200 * GB)},
        {"kind": "host", "name": "bare"},
        {"kind": "memory", "name": "pool", "memory": memory(400 * GB)},
        {"kind": "switch", "name": "sw"},
    ]
    links = [
        {"kind": "pcie", "between": [name, "sw"], "bandwidth": LINK, "latency": 1 * us, "efficiency": 0.8}
        for name in ("gpu*", "cpu", "bare", "pool")
    ]
    return TopologySpec.model_validate({"name": "test", "nodes": nodes, "links": links})


def build(copy_engines: int = 1, **options: Any) -> Cluster:
    return Cluster(Clock(), topology(), {"x": device(copy_engines)}, **options)


def copies(cluster: Cluster, *wanted: tuple[str, str, float]) -> list[tuple[int, int]]:
    """Start all copies at tick 0 and return the ticks of each."""
    running = [cluster.clock.env.process(cluster.copy(*one)) for one in wanted]
    cluster.clock.run()
    return [process.value for process in running]


def test_components_are_found_by_node_name():
    """GPUs, hosts and pools are those of the topology; every node with memory has a bank."""
    cluster = build()
    assert (list(cluster.gpus), list(cluster.hosts), list(cluster.pools)) == (
        ["gpu0", "gpu1"],
        ["cpu", "bare"],
        ["pool"],
    )
    assert list(cluster.banks) == ["gpu0", "gpu1", "cpu", "pool"]
    assert cluster.banks["gpu1"] is cluster.gpus["gpu1"].memory


def test_device_comes_by_name_by_function_or_inline():
    """All three ways give the same GPU; a name nobody knows is an error that says so."""
    asked = []
    Cluster(Clock(), topology("fast"), lambda name: asked.append(name) or device())
    assert asked == ["fast", "fast"]
    inline = Cluster(Clock(), topology(device(3)), {})
    assert inline.gpus["gpu0"].copy_engines.capacity == 3
    with pytest.raises(TopologyError, match="no device is named fast; known are x"):
        Cluster(Clock(), topology("fast"), {"x": device()})


@pytest.mark.parametrize(("source", "target"), [("gpu0", "gpu1"), ("gpu0", "bare"), ("cpu", "gpu1"), ("pool", "cpu")])
def test_copy_alone_takes_latency_and_the_slowest_part(source, target):
    """Two hops of a microsecond, then the bytes over the links, slower here than any memory."""
    assert copies(build(), (source, target, SIZE)) == [(0, ticks(2 * us) + ticks(SIZE / (LINK * 0.8)))]


def test_ideal_cluster_gives_peaks():
    """The packet efficiency of links and the streaming efficiency of memories count as 1."""
    assert copies(build(ideal=True), ("gpu0", "gpu1", SIZE)) == [(0, ticks(2 * us) + ticks(SIZE / LINK))]
    assert copies(build(ideal=True), ("gpu0", "gpu0", SIZE)) == [(0, ticks(2 * SIZE / (2000 * GB)))]


def test_copies_wait_for_their_copy_engine():
    """With one engine the second copy from a GPU starts when the first has ended, with two they share the link."""
    one = copies(build(1), ("gpu0", "gpu1", SIZE), ("gpu0", "bare", SIZE))
    assert one[1][0] == one[0][1]
    two = copies(build(2), ("gpu0", "gpu1", SIZE), ("gpu0", "bare", SIZE))
    assert [start for start, _ in two] == [0, 0]
    assert [end for _, end in two] == pytest.approx([ticks(2 * us) + ticks(2 * SIZE / (LINK * 0.8))] * 2, rel=1e-9)


def test_copy_from_a_host_holds_the_engine_of_its_target():
    """Two copies into one GPU run one after the other; between nodes without engines they do not wait."""
    into = copies(build(1), ("cpu", "gpu0", SIZE), ("pool", "gpu0", SIZE))
    assert into[1][0] == into[0][1]
    assert [start for start, _ in copies(build(1), ("cpu", "pool", SIZE), ("pool", "cpu", SIZE))] == [0, 0]


@pytest.mark.parametrize("copy_longer_by", [0.25, 1.0, 3.0])
def test_copy_within_a_memory_and_a_kernel_share_it(copy_longer_by):
    """Each has half the bank while both run; the longer one then has it alone."""
    cluster = build()
    bank, kernel_s = cluster.banks["gpu0"], 1e-3
    size_bytes = kernel_s * bank.bandwidth
    copy = cluster.clock.env.process(cluster.copy("gpu0", "gpu0", size_bytes * copy_longer_by / 2))
    kernel = bank.stream(kernel_s, size_bytes)
    cluster.clock.run()
    both_s = 2 * kernel_s * min(1.0, copy_longer_by)
    whole_s = kernel_s * (1 + copy_longer_by)
    assert kernel.elapsed_s == pytest.approx(both_s if copy_longer_by >= 1 else whole_s, rel=1e-9)
    assert copy.value[1] == pytest.approx(ticks(whole_s if copy_longer_by >= 1 else both_s), rel=1e-9)


def test_copy_over_links_takes_its_known_share_of_a_memory():
    """A copy that its links hold to s of the bank is not slowed; a kernel beside it takes 1 / (1 - s) as long."""
    cluster = build()
    bank = cluster.banks["gpu1"]
    share = LINK * 0.8 / bank.bandwidth
    kernel = bank.stream(1e-4, 1e-4 * bank.bandwidth)
    stream = cluster.fabric.stream(cluster.fabric.loads([("gpu0", "gpu1", 1.0)], memory=True), LINK)
    cluster.clock.run(kernel.done)
    assert kernel.elapsed_s == pytest.approx(1e-4 / (1 - share), rel=1e-9)
    stream.stop()
    assert bank.paced_bytes == pytest.approx(LINK * 0.8 * kernel.elapsed_s, rel=1e-6)


@pytest.mark.parametrize("rate", [0.0, 1e-6, 1e3])
def test_background_of_rate_zero_leaves_a_kernel_alone(rate):
    """As the rate of a stream goes to 0 a kernel takes its time on idle memory, in the end to the last bit."""
    cluster = build()
    bank = cluster.banks["gpu1"]
    cluster.fabric.stream(cluster.fabric.loads([("gpu0", "gpu1", 1.0)], memory=True), rate)
    cluster.clock.run(cluster.clock.timeout(10))
    kernel = bank.stream(1e-4, 1e-4 * bank.bandwidth)
    cluster.clock.run(kernel.done)
    assert kernel.elapsed_s == pytest.approx(1e-4, rel=2 * rate / bank.bandwidth + 1e-15)
    assert kernel.disturbed == (rate == 1e3)


def test_utilisation_is_named_and_at_most_one():
    """Over the time of one copy its links are busy but for the latency, its memories too, all others idle."""
    cluster = build()
    [(_, end)] = copies(cluster, ("gpu0", "gpu1", SIZE))
    busy = cluster.utilisation()
    bytes_s = SIZE / (LINK * 0.8)
    assert busy["gpu0->sw:pcie"] == busy["sw->gpu1:pcie"] == pytest.approx(bytes_s / (end / 1e12), rel=1e-9)
    assert busy["gpu1->sw:pcie"] == busy["gpu0.compute"] == busy["cpu.memory"] == 0.0
    assert min(busy["gpu0.memory"], busy["gpu1.memory"]) > 0.0
    assert all(0.0 <= fraction <= 1.0 for fraction in busy.values())


def test_nothing_is_busy_at_the_start():
    """Before any time has passed every fraction is 0."""
    assert set(build().utilisation().values()) == {0.0}


def test_probe_sees_the_copy():
    """One span with both ends and the size, from its turn to its end."""
    probe = RecordingProbe()
    copies(build(probes=[probe]), ("gpu0", "gpu1", SIZE))
    [(where, _, start_s, _, args)] = [span for span in probe.spans if span[1] == "copy"]
    assert (where, start_s) == ("test", 0.0)
    assert args == {"source": "gpu0", "target": "gpu1", "size_bytes": SIZE}
