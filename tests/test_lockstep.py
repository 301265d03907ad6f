"""Replicas that share experts: they start steps together, meet in every layer with experts, and wait for the slowest."""

from __future__ import annotations

import numpy as np
import pytest

from builders import build_plan, build_simulation, token_ticks
from gpusim.errors import SpecError
from gpusim.model.step import BatchShape
from gpusim.runtime.collective import TimedCollective

DETAILS = pytest.mark.parametrize("detail", ["kernel", "step"])
AT_ONCE = {"kind": "at_once"}


def build_replicas(*, tp=1, dp=2, prompts=(8, 8), output=4, gap_us=0, **changes):
    """Return a simulation of *dp* replicas of the tiny mixture of experts; request i goes to replica i mod dp."""
    rows = [{"arrival_s": i * gap_us * 1e-6, "prompt": n, "output": output} for i, n in enumerate(prompts)]
    changes = {"efficiency": "ideal", "detail": "step", **changes}
    return build_simulation(
        topology="dgx-a100-80gb",
        model="tiny-moe",
        serving__tensor_parallel_size=tp,
        serving__data_parallel_size=dp,
        serving__enable_expert_parallel=True,
        workload=trace_of(rows, changes.pop("folder")),
        **changes,
    )


def trace_of(rows, folder):
    """Write a trace of requests; return the workload that reads it."""
    path = folder / "trace.csv"
    lines = [f"{row['arrival_s']!r},{row['prompt']},{row['output']}" for row in rows]
    path.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *lines]) + "\n")
    return {"trace": str(path)}


def played(**changes):
    """Return a simulation that was run, with its summary."""
    simulation = build_replicas(**changes)
    return simulation, simulation.run().summary()


def prefill(prompt):
    return BatchShape(0, 0, ((prompt, prompt),), 1)


def decode(context):
    return BatchShape(1, context, (), 1)


def together_ticks(simulation, shapes, rows):
    """Play a step's operations by hand, all replicas side by side: the time at which the last has done all of its own."""
    engines = list(simulation.engines.values())
    lowering = engines[0].lowering
    programs = [lowering.beside(lowering.lower(s), own, sum(rows)) for s, own in zip(shapes, rows, strict=True)]
    timed = [e.replica.executor.timer.time(p, None).operations for e, p in zip(engines, programs, strict=True)]
    at, place = [0] * len(timed), [0] * len(timed)
    while True:
        for number, operations in enumerate(timed):
            while place[number] < len(operations) and not is_meeting(operations[place[number]]):
                at[number] += operations[place[number]].ticks[0]
                place[number] += 1
        if place[0] == len(timed[0]):
            assert all(place[n] == len(timed[n]) for n in range(len(timed)))
            return max(at)
        met = {operations[place[n]].name for n, operations in enumerate(timed)}
        assert len(met) == 1, "all come to the same meeting"
        at = [max(at) + timed[0][place[0]].ticks[0]] * len(timed)
        place = [p + 1 for p in place]


def is_meeting(operation):
    return isinstance(operation, TimedCollective) and operation.among == "expert"


@DETAILS
@pytest.mark.parametrize("tp", [1, 2])
def test_equal_batches_take_the_sum_of_their_kernels(detail, tp, tmp_path):
    """Nobody waits: a step is the kernels of one replica, one after the other, dispatch and combine among them."""
    simulation, _ = played(tp=tp, detail=detail, folder=tmp_path)
    engine = simulation.engines["engine0"]
    expected = []
    for shape in [prefill(8), decode(9), decode(10), decode(11)]:
        timed = engine.replica.executor.timer.time(engine.lowering.lower(shape), None)
        assert sum(is_meeting(operation) for operation in timed.operations) == 2 * 2
        expected.append(sum(operation.ticks[0] for operation in timed.operations))
    for ticks in token_ticks(simulation).values():
        assert ticks == np.cumsum(expected).tolist()


@DETAILS
@pytest.mark.parametrize(("long", "rows"), [(60, (60, 3)), (16, (16, 16))])
def test_the_slowest_decides_between_any_two_meetings(detail, long, rows, tmp_path):
    """Long and short prompts side by side, padded alike where a graph for 8 sequences holds them: as played by hand."""
    simulation, _ = played(prompts=(long, 3), detail=detail, folder=tmp_path)
    steps = [together_ticks(simulation, (prefill(long), prefill(3)), rows)]
    steps += [together_ticks(simulation, (decode(long + n), decode(3 + n)), (1, 1)) for n in (1, 2, 3)]
    ends = np.cumsum(steps).tolist()
    assert token_ticks(simulation) == {("engine0", 0): ends, ("engine1", 1): ends}


@DETAILS
def test_who_has_no_work_takes_part_all_the_same(detail, tmp_path):
    """One request on two replicas: the other computes one token a step, and its GPU is busy."""
    simulation, summary = played(prompts=(40,), detail=detail, folder=tmp_path)
    nothing = BatchShape(1, 1)
    steps = [together_ticks(simulation, (prefill(40), nothing), (40, 1))]
    steps += [together_ticks(simulation, (decode(40 + n), nothing), (1, 1)) for n in (1, 2, 3)]
    ends = np.cumsum(steps).tolist()
    assert token_ticks(simulation) == {("engine0", 0): ends}
    facts = [summary["engines"][name]["shared_experts"] for name in ("engine0", "engine1")]
    assert [fact["dummy_steps"] for fact in facts] == [0, 4]
    busy, idle = (simulation.cluster.gpus[name].compute for name in ("gpu0", "gpu1"))
    assert 0.5 * busy.busy_ticks < idle.busy_ticks < busy.busy_ticks, "all but sampling, and less attention"
    assert summary["engines"]["engine1"]["num_steps"] == 0


@DETAILS
def test_who_comes_during_a_step_waits_for_its_end(detail, tmp_path):
    """A replica that computes for nothing cannot begin with a request before the step under way is over."""
    simulation, _ = played(prompts=(40, 8), gap_us=10, detail=detail, folder=tmp_path)
    ends, rows = simulation.logs["engine0"].ends, simulation.requests.rows
    under_way = int(np.searchsorted(ends, 10_000_000))
    assert 0 <= under_way < len(ends) - 1, "it comes in the midst of the other's steps"
    assert rows["scheduled_ps"][rows["index"] == 1].item() == ends[under_way] > 10_000_000


@DETAILS
@pytest.mark.parametrize(("tp", "dp"), [(1, 2), (2, 2), (1, 4)])
def test_links_carry_dispatch_and_combine(detail, tp, dp, tmp_path):
    """A ring of all ranks sends (n - 1) / n of the gathered tokens along each arrow: states and scores out, states back."""
    prompts = (8,) * dp
    simulation, _ = played(tp=tp, dp=dp, prompts=prompts, output=2, detail=detail, folder=tmp_path)
    ranks, hidden, experts, layers, width = tp * dp, 256, 8, 2, 2
    sent = 0.0
    for tokens in (8, 1):
        gathered = -(-tokens // tp) * ranks
        sent += layers * (ranks - 1) / ranks * gathered * (2 * hidden + experts) * width
        if tp > 1:
            padded = -(-tokens // tp) * tp
            reduced, logits = (1 + 3 + 1) * tokens * hidden * width, 1 * 1024 * width
            sent += (tp - 1) / tp * (2 * reduced + logits + layers * padded * hidden * width)
    moved = simulation.cluster.fabric.moved_bytes()
    out = [sum(size for name, size in moved.items() if name.startswith(f"gpu{rank}->")) for rank in range(8)]
    assert out == pytest.approx([sent] * ranks + [0.0] * (8 - ranks), rel=1e-9)


def test_requests_are_conserved(tmp_path):
    """What is submitted is finished, and every replica has its share."""
    _, summary = played(dp=4, prompts=(5, 17, 9, 30, 2, 11, 8, 40, 3, 26), gap_us=150, folder=tmp_path)
    assert [engine["requests"]["finished"] for engine in summary["engines"].values()] == [3, 3, 2, 2]
    assert {engine["shared_experts"]["expert_parallel_size"] for engine in summary["engines"].values()} == {4}
    assert len({engine["shared_experts"]["steps"] for engine in summary["engines"].values()}) == 1


def test_waiting_for_others_is_named(tmp_path):
    """A replica with a short context waits for one with a long one; a step's reasons add up to its time."""
    _, summary = played(prompts=(60, 3), output=30, folder=tmp_path, serving__max_num_batched_tokens=64)
    reasons = [summary["engines"][name]["attribution"] for name in ("engine0", "engine1")]
    assert reasons[0]["seconds"]["waiting"] == pytest.approx(0.0, abs=1e-12)
    assert reasons[1]["seconds"]["waiting"] > 0
    for reason in reasons:
        assert sum(reason["seconds"].values()) == pytest.approx(reason["step_time_s"], rel=1e-12)


def test_copies_on_their_links_are_felt_at_kernel_detail(tmp_path):
    """Traffic between GPUs of two replicas delays dispatch and combine; then nothing is folded."""
    copy = {"kind": "copy", "from": "gpu0", "to": "gpu1", "rate": "200 GB/s"}
    alone, _ = played(folder=tmp_path)
    beside, summary = played(folder=tmp_path, background=[copy])
    assert {engine["detail"] for engine in summary["engines"].values()} == {"kernel"}
    for request, ticks in token_ticks(beside).items():
        assert ticks[-1] > token_ticks(alone)[request][-1]


def test_seconds_played_by_kernels_change_nothing(tmp_path):
    """Folded steps, some played for probes to see, folded steps: the same tokens."""
    folded, _ = played(prompts=(30, 3, 8), folder=tmp_path)
    plan = folded.plan
    mixed = type(folded)(plan, kernel_between=(8e-6, 16e-6))
    facts = mixed.run().summary()["engines"]["engine0"]
    assert 0 < facts["steps_at_kernel_detail"] < facts["num_steps"]
    assert token_ticks(mixed) == token_ticks(folded)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"serving__tensor_parallel_size": 2, "serving__data_parallel_size": 3},
            "6 ranks (2 in each of 3 replicas) do not divide num_experts = 8 of tiny-moe; try data_parallel_size = 1, 2, 4",
        ),
        ({"serving__data_parallel_size": 2, "serving__kv_placement": "pooled"}, "not yet: kv_placement: pooled"),
        ({"serving__data_parallel_size": 2, "serving__preemption_mode": "swap"}, "not yet: preemption_mode: swap"),
        ({"serving__data_parallel_size": 2, "serving__enable_expert_parallel": False}, "not yet: data_parallel_size"),
    ],
)
def test_what_cannot_be_shared_is_named(changes, message):
    """Experts that do not divide; pooled KV; swapping; slices of experts over all replicas."""
    with pytest.raises(SpecError, match=r"tiny-moe|not yet") as raised:
        build_plan(topology="dgx-a100-80gb", model="tiny-moe", **{"serving__enable_expert_parallel": True, **changes})
    assert message in str(raised.value)


def test_accounts_of_both_details_agree(tmp_path):
    """Bytes by channel and link, FLOPs and busy fractions of folded replicas are those of the kernels they stand for."""
    common = {"tp": 2, "prompts": (30, 3, 8, 40), "gap_us": 5, "efficiency": "calibrated", "folder": tmp_path}
    kernel, step = (played(detail=detail, **common)[0].cluster for detail in ("kernel", "step"))
    for name, bank in kernel.banks.items():
        np.testing.assert_allclose(step.banks[name].channel_bytes_out, bank.channel_bytes_out, rtol=1e-9)
    for name, moved in kernel.fabric.moved_bytes().items():
        assert step.fabric.moved_bytes()[name] == pytest.approx(moved, rel=1e-9)
    for name, busy in kernel.utilisation().items():
        assert step.utilisation()[name] == pytest.approx(busy, rel=1e-9)
    for name, gpu in kernel.gpus.items():
        assert step.gpus[name].compute.flops == pytest.approx(gpu.compute.flops, rel=1e-12)


def test_every_rank_played_gives_the_same_tokens(tmp_path):
    """All ranks of each replica meet as the one that stands for them does."""
    common = {"tp": 2, "prompts": (30, 3, 8), "gap_us": 5, "detail": "kernel", "folder": tmp_path}
    one, every = (played(ranks=ranks, **common) for ranks in ("folded", "all"))
    assert [run[1]["engines"]["engine1"]["ranks"] for run in (one, every)] == ["folded", "all"]
    assert token_ticks(one[0]) == token_ticks(every[0])


def test_gpus_of_two_kinds_do_not_share_experts():
    """They would take other times for the same kernels, of which one alone is timed."""
    kinds = [("a", "a100-sxm-80gb"), ("h", "h100-sxm")]
    nodes = [{"kind": "gpu", "name": name, "count": 1, "device": device} for name, device in kinds]
    links = [{"kind": "nvlink", "pairs": [["a0", "h0"]], "bandwidth": "100 GB/s", "latency": "1 us"}]
    topology = {"schema": 1, "name": "mixed", "nodes": nodes, "links": links}
    serving = {"data_parallel_size": 2, "enable_expert_parallel": True}
    with pytest.raises(SpecError, match="replicas that share experts must be alike"):
        build_plan(topology=topology, model="tiny-moe", serving=serving)
