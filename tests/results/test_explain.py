"""Where the time of tokens went: parts add up to what was measured."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpusim as gs
from gpusim.results.metrics import measured_requests
from gpusim.results.time_spent import TimeSpent
from gpusim.results.tokens import token_gaps
from gpusim.serving.commit import Commit
from gpusim.simulation import Simulation
from scenarios import plan_of, scenarios, swapping

EXAMPLES = [
    ("chat", {}),
    ("chat", {"serving.engine": "vllm", "measure.warmup": "2 s", "workload.num_requests": 40}),
    ("chat", {"serving.engine": "vllm", "serving.jitter": True}),
    ("two-engines", {}),
    ("busy-neighbour", {}),
    ("shortage", {"workload.num_requests": 12}),
    ("shortage", {"workload.num_requests": 6, "serving.preemption_mode": "swap"}),
    ("sessions", {}),
    ("chat", {"topology": "dgx-a100-80gb", "serving.kv_placement": "pooled", "workload.num_requests": 20}),
]


def check_sums(result):
    """Sums of the parts of each group are the mean of what its tokens and requests waited."""
    told, record = result.explain(), result.record
    keep = measured_requests(record.requests, record.window) & record.requests.has_status("finished")
    gaps = token_gaps(record.requests, record.steps, keep)
    if gaps.count:
        assert told["itl"]["all"]["mean_s"] == pytest.approx(result.itl.mean, rel=1e-9)
        assert told["itl"]["all"]["count"] == result.itl.count
        slow = gaps.values >= round(result.itl.p99 * 1e12)
        mean_s = np.average(gaps.values[slow], weights=gaps.weights[slow]) * 1e-12
        assert told["itl"]["slow"]["mean_s"] == pytest.approx(mean_s, rel=1e-9)
        assert told["itl"]["slow"]["count"] == gaps.weights[slow].sum()
        low, high = (told["itl"][name]["mean_s"] for name in ("median", "slow"))
        assert low <= result.itl.p90 * (1 + 1e-9)
        assert high >= result.itl.p99 * (1 - 1e-9)
    if result.ttft.count:
        assert told["ttft"]["all"]["mean_s"] == pytest.approx(result.ttft.mean, rel=1e-9)
        assert told["ttft"]["all"]["seconds"]["queue"] == pytest.approx(result.metrics.queue.mean, rel=1e-9, abs=1e-15)
        assert told["ttft"]["slow"]["mean_s"] >= result.ttft.p99 * (1 - 1e-9)
    groups = [*told["itl"].values(), *told["ttft"].values()]
    if told["queue"]:
        groups.append(told["queue"])
        assert told["queue"]["mean_s"] == pytest.approx(result.metrics.queue.mean, rel=1e-9, abs=1e-15)
        serving = [engine["serving"] for engine in record.scenario["engines"]] or [record.scenario["serving"]]
        if all(stated["scheduling_policy"] == "fcfs" for stated in serving):
            assert told["queue"]["seconds"]["policy"] == 0
    for group in groups:
        assert sum(group["seconds"].values()) == pytest.approx(group["mean_s"], rel=1e-9)
        assert sum(group["share"].values()) == pytest.approx(1 if group["mean_s"] else 0, rel=1e-9)
        assert min(spent for part, spent in group["seconds"].items() if part not in ("jitter", "api")) >= -1e-13


@pytest.mark.parametrize(("name", "overrides"), EXAMPLES)
def test_parts_add_up_in_examples(name, overrides):
    """With an API, a warm-up, several engines, background traffic, preemption of both kinds, sessions, pooled KV."""
    check_sums(gs.simulate(gs.load(name, overrides=overrides)))


@settings(max_examples=40)
@given(st.data())
def test_parts_add_up_in_any_scenario(data):
    """Any scheduler, policy, replicas or engines side by side, at either detail."""
    kind = data.draw(st.sampled_from(["poisson", "closed", "at_once", "sessions"]))
    machine = data.draw(st.sampled_from(["single", "split", "several", "replicas"]))
    scenario = scenarios(kind, machine)
    if machine == "single" and data.draw(st.booleans()):
        scenario = swapping(scenario)
    drawn = data.draw(scenario)
    try:
        result = Simulation(plan_of(drawn, drawn["detail"])).run()
    except gs.SimulationError:
        return  # none of its requests can run
    check_sums(result)


def test_others_prefill_is_what_makes_the_slow_tokens_slow():
    """On the chat example the slow tokens' steps all carry prompts, at many times the time of those without."""
    told = gs.simulate(gs.load("chat")).explain()["itl"]
    assert told["slow"]["beside_prefill"]["share"] == 1
    assert told["median"]["beside_prefill"]["share"] < 0.1
    assert told["all"]["beside_prefill"]["mean_s"] > 2 * told["all"]["beside_prefill"]["alone_mean_s"]
    share = told["all"]["beside_prefill"]["share"]
    parts = (
        share * told["all"]["beside_prefill"]["mean_s"] + (1 - share) * told["all"]["beside_prefill"]["alone_mean_s"]
    )
    assert parts == pytest.approx(told["all"]["mean_s"])


def test_a_lone_request_has_the_context_it_reads():
    """The token after the k-th of one request attends to its prompt and k tokens."""
    only = {"workload.num_requests": 1, "workload.prompt_tokens": {"kind": "fixed", "value": 100}}
    only["workload.output_tokens"] = {"kind": "fixed", "value": 11}
    told = gs.simulate(gs.load("chat", overrides=only)).explain()["itl"]["all"]["step"]
    assert told == {"decodes": 1.0, "prefill_tokens": 0.0, "context_tokens": 100 + (1 + 10) / 2}


def test_who_is_preempted_pauses():
    """The pause of the preempted request is in its one long gap, and in no other."""
    told = gs.simulate(gs.load("shortage")).explain()["itl"]
    assert told["slow"]["seconds"]["paused"] > 0
    assert told["median"]["seconds"]["paused"] == 0


@pytest.mark.parametrize(
    ("serving", "cause"),
    [
        ({"serving.max_num_seqs": 2, "serving.max_num_batched_tokens": 100_000}, "seats"),
        ({"serving.max_num_batched_tokens": 512, "serving.max_num_seqs": 512}, "token_budget"),
        ({"serving.num_gpu_blocks_override": 1024}, "kv_blocks"),
    ],
)
def test_the_queue_is_put_down_to_what_was_full(serving, cause):
    """With two seats, a small budget or few KV blocks nearly all of a long wait is for just that."""
    load = {"workload.arrivals": {"kind": "at_once"}, "serving.enable_prefix_caching": False}
    told = gs.simulate(gs.load("chat", overrides=load | serving)).explain()["queue"]
    assert told["share"][cause] > 0.5
    assert told["share"][cause] == max(told["share"].values())


TOGETHER = {
    "workload.arrivals": {"kind": "at_once"},
    "workload.num_requests": 16,
    "workload.prompt_tokens": {"kind": "fixed", "value": 100},
    "workload.output_tokens": {"kind": "fixed", "value": 200},
    "serving.max_num_batched_tokens": 4096,
}


@pytest.mark.parametrize(("overrides", "most"), [({}, 2e-4), (TOGETHER, 1.4e-2)], ids=["chat", "one batch"])
def test_runs_are_divided_over_their_steps_about_right(overrides, most):
    """Against the categories of each step, which the log has no room for: exact on the whole, off by *most* of a gap in parts."""
    steps, run = [], Commit.run

    def noting(commit, advance):
        steps.append(advance.played.attribution_ps[: len(advance.played.ends)])
        return run(commit, advance)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Commit, "run", noting)
        result = gs.simulate(gs.load("chat", overrides=overrides))
        told = result.explain()["itl"]
        exact_ps = np.concatenate(steps).astype(float)
        patch.setattr(TimeSpent, "of_steps", lambda _, at, weights: weights @ exact_ps[at])
        exact = result.explain()["itl"]
    for group, tolerance in (("all", 1e-12), ("median", most), ("slow", most)):
        off = tolerance * exact[group]["mean_s"]
        assert told[group]["seconds"] == pytest.approx(exact[group]["seconds"], rel=0, abs=off)
