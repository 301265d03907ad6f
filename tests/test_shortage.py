"""When blocks run out: what swapping costs, in closed form, alone and beside others on the same links."""

from pathlib import Path

import numpy as np
import pytest

from builders import build_plan, build_simulation, catalog_model, token_ticks
from gpusim.core.clock import seconds, ticks
from gpusim.errors import SpecError
from gpusim.machine import nearest_host, read_topology
from gpusim.model.footprint import kv_bytes_per_token, weight_bytes
from gpusim.plan import load, plan_scenario
from gpusim.runtime.attribution import TRANSFER
from gpusim.runtime.bounds import recompute_s, swap_s, swaps_from_tokens
from gpusim.simulation import Simulation
from helpers import REPOSITORY
from machines import catalog_device

PCIE = 31.51e9 * 0.914
"""Bytes/s that PCIe 4 x16 achieves, and its latency, in the topologies used here."""
LATENCY_S = 800e-9
TOKEN_BYTES = 2 * 2 * 4 * 32 * 2
"""Of the tiny model: keys and values of two layers, four heads of 32, two bytes each."""

TWO_REQUESTS = {
    "topology": "single-gpu",
    "serving__preemption_mode": "swap",
    "serving__block_size": 4,
    "serving__num_gpu_blocks_override": 12,
    "workload__arrivals": {"kind": "at_once"},
    "workload__prompt_tokens": {"kind": "fixed", "value": 20},
    "workload__output_tokens": {"kind": "fixed", "value": 12},
    "workload__num_requests": 2,
}
"""Two requests of 20 to 31 tokens in blocks of 4, of which there are 12: both run up to 24 tokens, then one gives way
with 6 blocks, and comes back when the other is through."""
BLOCKS = 6


def played(**changes):
    """Run the two requests; return the simulation."""
    simulation = build_simulation(**TWO_REQUESTS | changes)
    simulation.run()
    return simulation


def stalls(simulation, engine="engine"):
    """Return the ticks that steps waited for swapped blocks, stall by stall."""
    spent = simulation.logs[engine].runs["attribution_ps"][:, TRANSFER]
    return spent[spent > 0].tolist()


def stall(num_blocks=BLOCKS, *, shared_by=1, tp=1, latency_s=LATENCY_S):
    """Return what the closed form says: latency, and the bytes of a GPU's shard over its part of PCIe."""
    return ticks(latency_s) + ticks(num_blocks * 4 * TOKEN_BYTES / tp * shared_by / PCIE)


@pytest.mark.parametrize("detail", ["kernel", "step"])
def test_a_stall_takes_the_bytes_over_pcie(detail):
    """On a machine with nothing else, a swap takes latency + bytes / achieved bandwidth, once out and once in."""
    simulation = played(detail=detail)
    assert stalls(simulation) == [stall(), stall()]
    host = simulation.engines["engine"].host
    assert (host.num_swaps, host.blocks_out, host.blocks_in, host.peak_used) == (1, BLOCKS, BLOCKS, BLOCKS)


@pytest.mark.parametrize("detail", ["kernel", "step"])
def test_links_carry_the_blocks(detail):
    """PCIe moves the bytes of the blocks, once in each direction; the memories at both ends read and write them."""
    cluster = played(detail=detail).cluster
    size_bytes = BLOCKS * 4 * TOKEN_BYTES
    assert cluster.fabric.moved_bytes() == pytest.approx({"gpu0->cpu0:pcie": size_bytes, "cpu0->gpu0:pcie": size_bytes})
    assert cluster.banks["gpu0"].paced_bytes == cluster.banks["cpu0"].paced_bytes == pytest.approx(2 * size_bytes)


def test_a_swapped_request_goes_on_where_it_was():
    """It gets its next token with the step for which it comes back, computes nothing again, and is late by the wait."""
    simulation = played()
    log = simulation.logs["engine"]
    assert log.total("num_prefill_tokens") == 2 * 20
    assert log.total("num_decodes") == 2 * 11
    moved = np.flatnonzero(log.runs["attribution_ps"][:, TRANSFER])
    out, back = (int(log.runs["first_step"][run]) for run in moved)
    victim = token_ticks(simulation)["engine", 1]
    # One of two has its 5 first tokens, of which the last is not in the cache, when 24 tokens of each fill all blocks.
    assert log.ends[out - 1] == victim[4]
    assert log.ends[back] == victim[5]
    assert simulation.requests.rows["preempted_ps"].tolist() == [0, log.starts[back] - log.starts[out]]
    assert simulation.requests.rows["num_preemptions"].tolist() == [0, 1]


def test_other_than_transfers_a_swap_costs_nothing():
    """The run takes as long as one that recomputes, but for the transfers and the steps that recompute.

    On peak numbers: a kernel that splits no context may make a step with few tokens of a prompt shorter than one without.
    """
    swapped, again = (played(serving__preemption_mode=mode, efficiency="ideal") for mode in ("swap", "recompute"))
    assert again.logs["engine"].total("num_prefill_tokens") == 2 * 20 + 25
    assert stalls(again) == []
    number = len(stalls(swapped))
    assert number == 2
    assert swapped.clock.now - sum(stalls(swapped)) < again.clock.now


def test_without_room_in_host_memory_the_victim_recomputes():
    """Host memory for five blocks does not hold the six of the victim: no byte moves, and the run is as without swapping."""
    tight = played(serving__swap_space=f"{5 * 4 * TOKEN_BYTES} B")
    again = played(serving__preemption_mode="recompute")
    assert token_ticks(tight) == token_ticks(again)
    assert tight.engines["engine"].host.num_blocks == 5
    assert not any(tight.cluster.fabric.moved_bytes().values())


@pytest.mark.parametrize(("source", "target", "shared_by"), [("gpu0", "cpu0", (2, 1)), ("cpu0", "gpu0", (1, 2))])
@pytest.mark.parametrize("detail", ["kernel", "step"])
def test_a_foreign_copy_on_pcie_takes_its_fair_share(detail, source, target, shared_by):
    """Beside a copy that wants all of one direction of PCIe, blocks that go that way take twice as long."""
    copy = {"kind": "copy", "from": source, "to": target, "rate": "100 GB/s"}
    simulation = played(detail=detail, background=[copy])
    assert stalls(simulation) == pytest.approx([stall(shared_by=n) for n in shared_by], rel=1e-6)
    # The copy's rate depends on the swaps, so that steps beside it cannot be folded.
    assert simulation.engines["engine"].folding is None


def pair(*gpus):
    """Return changes that make two engines on GPUs of a machine with two PCIe switches play the two requests each."""
    workload = {name.partition("__")[2]: value for name, value in TWO_REQUESTS.items() if name.startswith("workload")}
    engines = [{"name": gpu, "gpus": [gpu], "workload": workload} for gpu in gpus]
    return {"topology": "pcie-4gpu-2root", "engines": engines}


@pytest.mark.parametrize("detail", ["kernel", "step"])
@pytest.mark.parametrize(("gpus", "shared_by"), [(("gpu0", "gpu1"), 2), (("gpu0", "gpu2"), 1)])
def test_engines_behind_one_switch_slow_each_other(gpus, shared_by, detail):
    """In lock-step two engines share the uplink of their switch; behind a switch each they do not."""
    simulation = played(detail=detail, **pair(*gpus))
    for gpu in gpus:
        assert stalls(simulation, gpu) == [stall(shared_by=shared_by)] * 2
        # Swaps are flows at either detail, so engines that meet nowhere else are folded all the same.
        assert (simulation.engines[gpu].folding is None) == (detail == "kernel")


@pytest.mark.parametrize(("tp", "shared_by"), [(1, 1), (2, 2), (4, 2)])
def test_ranks_move_their_shards_at_once(tp, shared_by):
    """Of TP ranks each moves its part; pairs of them share the uplink of a DGX A100's PCIe switch."""
    simulation = played(topology="dgx-a100-80gb", serving__tensor_parallel_size=tp)
    assert stalls(simulation) == [stall(tp=tp, shared_by=shared_by)] * 2
    moved = simulation.cluster.fabric.moved_bytes()
    for gpu in range(tp):
        assert moved[f"gpu{gpu}->pcie{gpu // 2}:pcie"] == pytest.approx(BLOCKS * 4 * TOKEN_BYTES / tp)


def test_collectives_on_the_way_of_a_swap_are_not_folded():
    """An engine whose all-reduces cross the uplink over which another one swaps is played at kernel detail."""
    across = {"name": "across", "gpus": ["gpu0", "gpu2"], "serving": {"tensor_parallel_size": 2}}
    details = {}
    for mode in ("recompute", "swap"):
        engines = [across, {"name": "swapping", "gpus": ["gpu1"], "serving": {"preemption_mode": mode}}]
        simulation = build_simulation(topology="pcie-4gpu-2root", engines=engines, detail="step")
        details[mode] = [engine.folding is not None for engine in simulation.engines.values()]
    assert details == {"recompute": [True, True], "swap": [False, True]}


def test_detail_may_change_around_a_swap():
    """Steps played kernel by kernel in the midst of a run, swaps among them, give the same tokens."""
    whole = played(detail="step")
    between = (0.3 * whole.clock.now_s, 0.7 * whole.clock.now_s)
    from gpusim.simulation import Simulation

    part = Simulation(build_plan(**TWO_REQUESTS | {"detail": "step"}), kernel_between=between)
    part.run()
    assert 0 < part.engines["engine"].steps_by_kernel < len(part.logs["engine"])
    assert token_ticks(part) == token_ticks(whole)


def test_a_gpu_swaps_to_its_own_socket():
    """The host over the fewest links keeps the blocks: on a DGX A100 the first four GPUs hang on the first socket."""
    topology = read_topology("dgx-a100-80gb", Path())
    assert [nearest_host(topology, f"gpu{gpu}") for gpu in range(8)] == ["cpu0"] * 4 + ["cpu1"] * 4


def test_swap_space_is_taken_from_host_memory():
    """Of each GPU's swap space whole blocks are reserved; as many as it holds can be swapped."""
    simulation = build_simulation(**TWO_REQUESTS | {"topology": "dgx-a100-80gb", "serving__tensor_parallel_size": 2})
    shard_bytes = 4 * TOKEN_BYTES // 2
    assert simulation.engines["engine"].host.num_blocks == 4 * 2**30 // shard_bytes
    assert simulation.cluster.banks["cpu0"].used_bytes == 2 * 4 * 2**30


@pytest.mark.parametrize(("watermark", "kept", "admitted"), [(0.0, 0, 2), (0.24, 2, 2), (0.25, 3, 1)])
def test_the_watermark_is_left_free(watermark, kept, admitted):
    """Of 12 blocks two prompts of 5 leave two: enough for a watermark of two, as vLLM rounds it, and not for one of three."""
    simulation = played(serving__watermark=watermark)
    assert simulation.engines["engine"].roster.watermark_blocks == kept
    assert simulation.logs["engine"].runs[0]["num_prefill_tokens"] == 20 * admitted


def example(mode, **overrides):
    """Run the example of docs/shortage.md; return the simulation."""
    stated = {"serving.preemption_mode": mode, "serving.watermark": 0.1} | overrides
    simulation = Simulation(plan_scenario(load("shortage", overrides=stated)))
    simulation.run()
    return simulation


DOCUMENT = (REPOSITORY / "docs" / "shortage.md").read_text(encoding="utf-8")


def test_the_worked_example_is_what_is_simulated():
    """Blocks, stall and gap of the document are the closed form's, and those of the run; the victim recomputes 2,160 tokens."""
    simulation = example("swap", **{"serving.watermark": 0})
    assert simulation.engines["engine"].host.blocks_out == 135
    stall = ticks(LATENCY_S) + ticks(135 * 16 * 131_072 / PCIE)
    assert stalls(simulation) == [stall, stall]
    stayed = np.diff(token_ticks(simulation)["engine", 0])[1:]  # the first gap is for the prompt of the other
    assert f"= {seconds(stall) * 1e3:.2f} ms" in DOCUMENT
    assert f"one gap of {seconds(stayed.max()) * 1e3:.1f} ms" in DOCUMENT
    again = example("recompute")
    runs = again.logs["engine"].runs[-3:-1]
    assert runs["num_prefill_tokens"].tolist() == [2048, 2160 - 2048]
    first, second = np.diff([*runs["start_ps"], again.logs["engine"].runs["start_ps"][-1]]) * 1e-9
    assert f"steps of {first:.0f} and {second:.0f} ms" in DOCUMENT
    thrashing = example("recompute", **{"serving.watermark": 0})
    assert f"{thrashing.requests.rows['num_preemptions'].sum()} times" in DOCUMENT


@pytest.mark.parametrize(("prompt", "wins"), [(60, "recompute"), (1000, "swap")])
def test_which_is_faster_is_as_the_closed_forms_say(prompt, wins):
    """On peak numbers the example takes less time with swaps above the break-even context, and below it without."""
    blocks = 2 * -(-prompt // 16) + 6
    few = {"serving.num_gpu_blocks_override": blocks, "serving.watermark": 1.5 / blocks, "efficiency": "ideal"}
    few |= {"workload.prompt_tokens.value": prompt, "workload.output_tokens.value": 100}
    runs = {mode: example(mode, **few) for mode in ("swap", "recompute")}
    tokens = runs["swap"].engines["engine"].host.blocks_out * 16
    model, device = catalog_model("llama-3.1-8b"), runs["swap"].plan.engines[0].device
    kv, weights = kv_bytes_per_token(model, "bf16"), weight_bytes(model, "bf16")
    peak = {"flops": device.compute.peak["bf16"], "bandwidth": device.memory.bandwidth}
    even = swaps_from_tokens(kv, weights, link=31.51e9, **peak)
    assert (tokens > even) == (wins == "swap")
    assert min(runs, key=lambda mode: runs[mode].clock.now) == wins
    gain_s = seconds(runs["recompute"].clock.now - runs["swap"].clock.now)
    expected_s = recompute_s(tokens, weights, **peak) - swap_s(tokens * kv, 31.51e9, LATENCY_S)
    # Of a step of decodes a tenth: not every kernel is bound by memory there, and these take longer with every token.
    assert gain_s == pytest.approx(expected_s, rel=0.1, abs=0.1 * weights / peak["bandwidth"])


@pytest.mark.parametrize("name", ["llama-2-7b", "llama-3.1-8b", "falcon-7b"])
def test_the_table_of_break_even_contexts_is_the_closed_form(name):
    """Each row of the document, from the catalog's A100 and model, alone on PCIe and beside another GPU."""
    model, device = catalog_model(name), catalog_device("a100-sxm-80gb")
    kv, weights = kv_bytes_per_token(model, "bf16"), weight_bytes(model, "bf16")
    peak = {"flops": device.compute.peak["bf16"], "bandwidth": device.memory.bandwidth}
    even = [swaps_from_tokens(kv, weights, link=PCIE / shared_by, **peak) for shared_by in (1, 2)]
    cells = [f"{swap_s(kv, PCIE) * 1e6:.1f} µs", f"{weights / peak['flops'] * 1e6:.1f} µs"]
    cells += ["never" if np.isinf(tokens) else f"{tokens:.0f} tokens" for tokens in even]
    assert f"| {' | '.join([name, *cells])} |" in DOCUMENT


LONELY = {
    "schema": 1,
    "name": "lonely",
    "nodes": [{"kind": "gpu", "name": "gpu0", "device": "a100-sxm-80gb"}],
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"topology": LONELY}, "serving.preemption_mode: swap: gpu0 of lonely reaches no host; leave it out, or"),
        ({"serving__swap_space": "2 KiB"}, "GiB holds no KV block, which has"),
        ({"serving__swap_space": "300 GiB"}, "serving.swap_space: 300 GiB for the GPUs of cpu0, which has 256 GiB"),
        ({"serving__swap_space": 4}, "write the unit"),
        ({"serving__kv_placement": "pooled"}, "not yet: swapping or offloading pooled KV"),
        ({"serving__async_scheduling": True}, "not yet: preemption_mode: swap with steps in flight"),
        ({"serving__preemption_mode": "swop"}, 'did you mean "swap"?'),
        ({"serving__watermark": 1.0}, "serving.watermark: must be less than 1"),
    ],
)
def test_what_cannot_be_swapped_is_refused(changes, said):
    """One clear message names the key and the way out."""
    with pytest.raises(SpecError) as caught:
        build_plan(**TWO_REQUESTS | changes)
    assert said in str(caught.value).replace("\n", " ")
