"""Flows on links: closed forms, fair sharing, conservation, continuity."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusim.core.arrays import FloatArray, IntArray
from gpusim.core.clock import Clock, ticks
from gpusim.core.probe import Probe, RecordingProbe
from gpusim.hardware.bandwidth_use import BandwidthUse
from gpusim.hardware.fabric import Fabric
from gpusim.hardware.flow import Flow
from gpusim.hardware.graph import build_graph
from gpusim.spec.topology import TopologySpec
from gpusim.units import GB, MB, us
from machines import count_events

LINK = 50 * GB
"""Bandwidth of the link of each GPU to the switch, per direction."""
SIZE = 64 * MB


class FakeBank:
    """A memory bank of which only the sharing with flows is kept."""

    name = "bank"

    def __init__(self, bandwidth: float) -> None:
        self.bandwidth = bandwidth
        self.num_elastic = 0
        self.on_elastic_change: Callable[[], None] | None = None
        self.paced: list[float] = []
        self.paced_bytes = 0.0

    def set_paced(self, share: float) -> None:
        self.paced.append(share)

    def account_paced(self, size_bytes: float, start: int, end: int) -> None:
        assert start <= end
        self.paced_bytes += size_bytes

    def account_paced_steps(self, size_bytes: FloatArray, starts: IntArray, ends: IntArray) -> None:
        assert (starts <= ends).all()
        self.paced_bytes += float(size_bytes.sum())

    def run_kernels(self, number: int) -> None:
        self.num_elastic = number
        if self.on_elastic_change is not None:
            self.on_elastic_change()


def build(
    *, bank: float | None = None, efficiency: float = 1.0, ideal: bool = False, probes: list[Probe] | None = None
) -> Fabric:
    """Four GPUs on one switch; with *bank* each has a memory of so many bytes/s."""
    spec = TopologySpec.model_validate(
        {
            "name": "star",
            "nodes": [{"kind": "gpu", "name": "gpu", "count": 4, "device": "x"}, {"kind": "switch", "name": "sw"}],
            "links": [
                {
                    "kind": "nvlink",
                    "between": ["gpu*", "sw"],
                    "bandwidth": LINK,
                    "latency": 1 * us,
                    "efficiency": efficiency,
                }
            ],
        }
    )
    banks = {} if bank is None else {f"gpu{i}": FakeBank(bank) for i in range(4)}
    return Fabric(Clock(), "fabric", build_graph(spec), banks, ideal=ideal, probes=probes)


def send(fabric: Fabric, source: int, target: int, size_bytes: float = SIZE, **options: float) -> Flow:
    return fabric.transfer(fabric.loads([(f"gpu{source}", f"gpu{target}", size_bytes)], memory=False), **options)


def at(fabric: Fabric, time_s: float, call: Callable[[], None]) -> None:
    fabric.clock.timeout(ticks(time_s)).callbacks.append(lambda _: call())


def end_s(fabric: Fabric, *flows: Flow) -> list[float]:
    """Run and return the time at which the bytes of each flow had arrived, by the flow's own account."""
    fabric.clock.run()
    return [flow.start / 1e12 + flow.elapsed_s for flow in flows]


@settings(max_examples=50, deadline=None)
@given(st.floats(1.0, 1e12), st.floats(0.0, 1e-3), st.floats(0.1, 1.0))
def test_flow_alone_takes_alpha_beta(size_bytes, latency_s, efficiency):
    """An idle route takes latency + size / (bandwidth × efficiency), each rounded once, in float seconds exactly."""
    fabric = build(efficiency=efficiency)
    flow = send(fabric, 0, 1, size_bytes, latency_s=latency_s)
    fabric.clock.run(flow.done)
    assert flow.elapsed_s == flow.ideal_s == size_bytes / (LINK * efficiency)
    assert fabric.clock.now == ticks(latency_s) + ticks(flow.ideal_s)
    assert not flow.disturbed


def test_latency_of_loads_is_that_of_the_route():
    """Two hops of a microsecond; the traffic of a collective waits for its slowest route."""
    loads = build().loads([("gpu0", "gpu1", SIZE), ("gpu2", "gpu2", SIZE)], memory=False)
    assert loads.latency_s == pytest.approx(2 * us)
    assert loads.size_bytes == 2 * SIZE


def test_scaled_loads_are_those_of_larger_traffic():
    """Three times the loads are the loads of three times the bytes; the latency stays."""
    fabric = build(bank=LINK, efficiency=0.8)
    one, three = (fabric.loads([("gpu0", "gpu1", size)], memory=True) for size in (SIZE, 3 * SIZE))
    scaled = one.scaled(3.0)
    assert scaled.amounts.tolist() == three.amounts.tolist()
    assert (scaled.size_bytes, scaled.peak_bytes, scaled.banks) == (three.size_bytes, three.peak_bytes, three.banks)
    assert (scaled.latency_s, scaled.ideal_s) == (three.latency_s, pytest.approx(three.ideal_s))
    assert fabric.peak_s(three) == pytest.approx(3 * SIZE / LINK)


def test_traffic_together_loads_the_sum_of_its_parts():
    """Bytes add up on every link and memory; the time is that of the fullest, the latency that of the slowest."""
    fabric = build(bank=4 * LINK)
    parts = [("gpu0", "gpu2", SIZE), ("gpu1", "gpu2", 2 * SIZE)]
    together = fabric.together([fabric.reads([part]) for part in parts])
    at_once = fabric.reads(parts)
    assert (together.resources, together.amounts.tolist()) == (at_once.resources, at_once.amounts.tolist())
    assert (together.banks, together.size_bytes, together.latency_s) == (at_once.banks, 3 * SIZE, at_once.latency_s)
    assert together.ideal_s == 3 * SIZE / LINK


def test_ideal_fabric_gives_the_peak():
    """With ideal the packet efficiency counts as 1."""
    assert build(efficiency=0.8, ideal=True).loads([("gpu0", "gpu1", SIZE)], memory=False).ideal_s == SIZE / LINK


def test_two_flows_over_one_link_take_twice_as_long():
    """Both leave gpu0 and share its link."""
    fabric = build()
    flows = [send(fabric, 0, 1), send(fabric, 0, 2)]
    assert end_s(fabric, *flows) == pytest.approx([2 * SIZE / LINK] * 2, rel=1e-12)
    assert all(flow.disturbed for flow in flows)


def test_opposite_directions_do_not_share():
    """A link is full duplex."""
    fabric = build()
    flows = [send(fabric, 0, 1), send(fabric, 1, 0)]
    assert end_s(fabric, *flows) == [SIZE / LINK] * 2


def test_flow_that_joins_half_way():
    """After half the bytes at full rate the second half takes twice as long; then the newcomer has the link alone."""
    fabric, late = build(), []
    first, whole = send(fabric, 0, 1), SIZE / LINK
    at(fabric, whole / 2, lambda: late.append(send(fabric, 0, 1)))
    fabric.clock.run()
    assert end_s(fabric, first, *late) == pytest.approx([1.5 * whole, 2 * whole], rel=1e-9)


def test_each_speed_of_a_flow_is_counted_while_it_has_it():
    """One flow fills two of three links, and both together as much: two meet on the way to one GPU."""
    fabric = build()
    send(fabric, 0, 1)
    at(fabric, SIZE / LINK / 2, lambda: send(fabric, 2, 1))
    fabric.clock.run(fabric.clock.timeout(ticks(2 * SIZE / LINK)))
    assert BandwidthUse.of(fabric.clock.now, fabric.moved()).parts["nvlink"] == pytest.approx(2 / 3)


def test_flow_that_starts_as_another_ends_disturbs_nothing():
    """Back to back at the same tick both have the link alone."""
    fabric, late = build(), []
    first = send(fabric, 0, 1)
    at(fabric, SIZE / LINK, lambda: late.append(send(fabric, 0, 1)))
    fabric.clock.run()
    assert not first.disturbed
    assert not late[0].disturbed


def test_what_a_slower_flow_leaves_goes_to_the_other():
    """Three flows into gpu3 get a third each; gpu0's other flow has the other two thirds of its link."""
    fabric = build()
    third = [send(fabric, source, 3, SIZE) for source in (0, 1, 2)]
    rest = send(fabric, 0, 1, SIZE)
    ends = end_s(fabric, *third, rest)
    assert ends[1:] == pytest.approx([3 * SIZE / LINK] * 2 + [1.5 * SIZE / LINK], rel=1e-9)


def test_collective_advances_as_one_flow():
    """A ring of four takes the time of one of its parts, and as one flow that shares link gpu0 -> switch, twice that."""
    fabric = build()
    ring = fabric.loads([(f"gpu{i}", f"gpu{(i + 1) % 4}", SIZE) for i in range(4)], memory=False)
    assert ring.ideal_s == SIZE / LINK
    flows = [fabric.transfer(ring), send(fabric, 0, 2)]
    assert end_s(fabric, *flows) == pytest.approx([2 * SIZE / LINK] * 2, rel=1e-9)


def test_slower_law_occupies_the_link():
    """A law at 60 % of the links takes its time alone, and twice its time against another such."""
    fabric = build()
    law_s = SIZE / LINK / 0.6
    alone = send(fabric, 0, 1, ideal_s=law_s)
    assert end_s(fabric, alone) == [law_s]
    fabric = build()
    both = [send(fabric, 0, 1, ideal_s=law_s), send(fabric, 0, 1, ideal_s=law_s)]
    assert end_s(fabric, *both) == pytest.approx([2 * law_s] * 2, rel=1e-9)
    assert sum(fabric.moved_bytes().values()) == pytest.approx(4 * SIZE)


def test_capped_flow_leaves_the_rest_of_the_link():
    """A flow held to a quarter by its ends is at its own ideal; the other gets three quarters."""
    fabric = build()
    capped, free = send(fabric, 0, 1, rate_cap=LINK / 4), send(fabric, 0, 1)
    assert end_s(fabric, capped, free) == pytest.approx([4 * SIZE / LINK, 4 / 3 * SIZE / LINK], rel=1e-9)
    assert capped.elapsed_s == capped.ideal_s
    assert not capped.disturbed


def test_shared_uplink_halves_both_pairs():
    """Two copies from socket to socket share the uplink between them, though they share no GPU."""
    nodes = [{"kind": "gpu", "name": "gpu", "count": 4, "device": "x"}, {"kind": "switch", "name": "plx", "count": 2}]
    down = {"pairs": [[f"gpu{i}", f"plx{i // 2}"] for i in range(4)], "latency": 0.0, "kind": "pcie"}
    links = [down | {"bandwidth": LINK}, {"between": ["plx0", "plx1"]} | {"kind": "pcie", "latency": 0.0}]
    links[1]["bandwidth"] = LINK
    spec = TopologySpec.model_validate({"name": "uplink", "nodes": nodes, "links": links})
    fabric = Fabric(Clock(), "fabric", build_graph(spec))
    flows = [send(fabric, 0, 2), send(fabric, 1, 3), send(fabric, 3, 2)]
    assert end_s(fabric, *flows) == pytest.approx([2 * SIZE / LINK] * 3, rel=1e-9)


workloads = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 3),
        st.floats(1e3, 1e8),
        st.floats(0, 2e-3),
        st.none() | st.floats(1e9, 1e11),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(workloads)
def test_bytes_are_conserved_and_no_link_is_busier_than_time(workload):
    """Every link carries exactly what was asked of it, no flow beats its ideal, no link works more than elapsed."""
    fabric, flows = build(bank=3 * LINK), []
    expected = dict.fromkeys((link.name for link in fabric.links), 0.0)
    for source, target, size_bytes, latency_s, cap in workload:
        loads = fabric.loads([(f"gpu{source}", f"gpu{target}", size_bytes)], memory=True)
        flows.append(fabric.transfer(loads, rate_cap=cap, latency_s=latency_s))
        for name in () if source == target else (f"gpu{source}->sw:nvlink", f"sw->gpu{target}:nvlink"):
            expected[name] += size_bytes
    fabric.clock.run()
    last = max(flow.start / 1e12 + flow.elapsed_s for flow in flows)
    assert fabric.moved_bytes() == pytest.approx(expected, rel=1e-9)
    assert all(flow.done.processed and flow.elapsed_s >= flow.ideal_s * (1 - 1e-9) for flow in flows)
    assert max(fabric.busy_s().values()) <= last * (1 + 1e-9) + 1e-12 * len(flows)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(1e3, 1e8)), min_size=2, max_size=4))
def test_order_of_simultaneous_starts_does_not_matter(workload):
    """Every order of the same starts gives each flow the same end, to the last bit."""
    outcomes = set()
    for order in permutations(range(len(workload))):
        fabric = build(bank=2 * LINK)
        flows = {}
        for number in order:
            source, target, size_bytes = workload[number]
            loads = fabric.loads([(f"gpu{source}", f"gpu{target}", size_bytes)], memory=True)
            flows[number] = fabric.transfer(loads)
        fabric.clock.run()
        outcomes.add(tuple((flows[n].elapsed_s, flows[n].due, flows[n].disturbed) for n in range(len(workload))))
    assert len(outcomes) == 1


@pytest.mark.parametrize("rate", [0.0, 1e-9, 1.0])
def test_background_of_rate_zero_changes_nothing(rate):
    """As the rate of a background stream goes to 0, so does its effect on a flow and on the memory."""
    fabric = build(bank=2 * LINK)
    loads = fabric.loads([("gpu0", "gpu1", SIZE)], memory=True)
    stream = fabric.stream(loads, rate)
    flow = fabric.transfer(loads)
    fabric.clock.run(flow.done)
    assert flow.elapsed_s == pytest.approx(flow.ideal_s, rel=2 * rate / LINK + 1e-15)
    assert flow.disturbed == (rate == 1.0)
    assert fabric_bank(fabric, 0).paced[-1] == pytest.approx(rate / (2 * LINK), rel=1e-9)
    stream.stop()
    assert fabric_bank(fabric, 0).paced[-1] == 0.0


def fabric_bank(fabric: Fabric, gpu: int) -> FakeBank:
    return fabric._sharing._banks[len(fabric.links) + gpu]


def test_stream_runs_at_its_rate_and_is_counted():
    """A stream at a fifth of the link leaves four fifths; what it moved until stopped is counted, once."""
    fabric = build()
    stream = fabric.stream(fabric.loads([("gpu0", "gpu1", SIZE)], memory=False), LINK / 5)
    flow = send(fabric, 0, 1)
    fabric.clock.run(flow.done)
    assert flow.elapsed_s == pytest.approx(1.25 * SIZE / LINK, rel=1e-9)
    assert fabric.moved_bytes()["sw->gpu1:nvlink"] == pytest.approx(1.25 * SIZE)
    stream.stop()
    stream.stop()
    assert fabric.moved_bytes()["gpu0->sw:nvlink"] == pytest.approx(1.25 * SIZE)


def test_stream_stopped_before_it_began_moves_nothing():
    """Stopping at the tick of the start leaves no trace."""
    fabric = build(bank=LINK)
    fabric.stream(fabric.loads([("gpu0", "gpu1", SIZE)], memory=True), LINK).stop()
    fabric.clock.run()
    assert set(fabric.moved_bytes().values()) == {0.0}
    assert fabric_bank(fabric, 0).paced == []


def test_copy_within_one_memory_moves_every_byte_twice():
    """It reads and writes the same bank and uses no link."""
    fabric = build(bank=4 * LINK)
    flow = fabric.transfer(fabric.loads([("gpu0", "gpu0", SIZE)], memory=True))
    assert end_s(fabric, flow) == [2 * SIZE / (4 * LINK)]
    assert fabric_bank(fabric, 0).paced_bytes == 2 * SIZE
    assert set(fabric.moved_bytes().values()) == {0.0}


def test_bytes_read_by_processors_are_not_written():
    """A kernel that reads a neighbour's memory loads that memory and the links, not its own memory."""
    fabric = build(bank=4 * LINK)
    fabric.transfer(fabric.reads([("gpu0", "gpu1", SIZE)]))
    fabric.clock.run()
    assert [fabric_bank(fabric, gpu).paced_bytes for gpu in (0, 1)] == [SIZE, 0.0]
    assert fabric.moved_bytes()["sw->gpu1:nvlink"] == SIZE


def test_copy_shares_a_memory_fairly_with_its_kernels():
    """Beside two kernels a copy within the memory has a third of it, and beside none all; the bank is told so."""
    fabric = build(bank=4 * LINK)
    bank = fabric_bank(fabric, 0)
    bank.num_elastic = 2
    flow = fabric.transfer(fabric.loads([("gpu0", "gpu0", SIZE)], memory=True))
    at(fabric, 1.5 * SIZE / (4 * LINK), lambda: bank.run_kernels(0))
    assert end_s(fabric, flow) == pytest.approx([3 * SIZE / (4 * LINK)], rel=1e-9)
    assert bank.paced == pytest.approx([1 / 3, 1.0, 0.0])
    assert bank.on_elastic_change is None


def test_kernels_that_change_no_speed_have_nothing_solved():
    """A flow its link holds back is asked about at every kernel, and the fabric puts nothing on the queue for it."""
    fabric = build(bank=40 * LINK)
    fabric.transfer(fabric.loads([("gpu0", "gpu1", SIZE)], memory=True))
    fabric.clock.run(fabric.clock.timeout(1))
    kernels = [lambda number=number: fabric_bank(fabric, 0).run_kernels(number) for number in (1, 3, 0)]
    assert count_events(fabric.clock, lambda: [run() for run in kernels]) == 0
    assert count_events(fabric.clock, lambda: fabric_bank(fabric, 0).run_kernels(100)) == 1


def test_accounts_are_those_of_all_flows_in_whatever_order_they_are_asked_for():
    """Traffic of many sizes, some of it under way, is counted to the byte whenever somebody looks."""
    fabric, expected = build(), 0.0
    for number in range(300):
        send(fabric, 0, 1, 1e6 + number)
        fabric.clock.run()
        expected += 1e6 + number
        if number % 100 == 7:
            assert fabric.moved_bytes()["gpu0->sw:nvlink"] == pytest.approx(expected, rel=1e-12)
    send(fabric, 0, 1, SIZE)
    fabric.clock.run(fabric.clock.timeout(ticks(0.5 * SIZE / LINK)))
    assert fabric.moved_bytes()["gpu0->sw:nvlink"] == pytest.approx(expected + SIZE / 2, rel=1e-9)
    assert fabric.busy_s()["gpu0->sw:nvlink"] == pytest.approx((expected + SIZE / 2) / LINK, rel=1e-9)


def test_kernels_do_not_disturb_a_flow_its_link_holds_back():
    """A flow far below its fair share of the memory keeps its ideal time exactly while kernels come and go."""
    fabric = build(bank=40 * LINK)
    flow = fabric.transfer(fabric.loads([("gpu0", "gpu1", SIZE)], memory=True))
    for number in (1, 3, 0):
        at(fabric, (number + 1) * 0.2 * SIZE / LINK, lambda number=number: fabric_bank(fabric, 0).run_kernels(number))
    assert end_s(fabric, flow) == [SIZE / LINK]
    assert not flow.disturbed
    assert fabric_bank(fabric, 0).paced == pytest.approx([1 / 40, 0.0])


def test_nothing_to_move_is_done_after_the_latency():
    """Traffic of no bytes ends when its latency has passed."""
    fabric = build()
    fabric.clock.run(send(fabric, 0, 1, 0.0, latency_s=3 * us).done)
    assert fabric.clock.now == ticks(3 * us)


def test_probe_sees_flows_and_rates_and_changes_nothing():
    """With a probe the times are the same; it sees each flow as a span and each link's rate until it is 0 again."""
    probe = RecordingProbe()
    watched, alone = build(probes=[probe]), build()
    ends = [end_s(fabric, send(fabric, 0, 1), send(fabric, 0, 2)) for fabric in (watched, alone)]
    assert ends[0] == ends[1]
    assert [(where, what) for where, what, *_ in probe.spans] == [("fabric", "flow")] * 2
    rates = [value for where, _, _, value in probe.counters if where == "gpu0->sw:nvlink"]
    assert rates[0] == pytest.approx(LINK)
    assert rates[-1] == 0.0
