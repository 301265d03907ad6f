"""The study of schedulers, `examples/schedulers.yaml`: the trade-offs known from the papers, as orderings."""

import pytest

from gpusim.sweeps import sweep

UNRESERVED = ("vllm-v1, 2048", "vllm-v1, 512", "sarathi, 512", "vllm-v0")
"""Continuous batching that takes blocks as they are needed."""
CONTINUOUS = (*UNRESERVED, "orca")


@pytest.fixture(scope="module")
def summaries():
    """Return the summary of each point."""
    return {row.point.labels["scheduler"]: row.result.summary() for row in sweep("schedulers")}


def test_all_serve_all(summaries):
    """No request is rejected, so that all points serve the same ones."""
    assert {name: summary["requests"]["finished"] for name, summary in summaries.items()} == dict.fromkeys(
        summaries, 400
    )


def test_nobody_who_takes_blocks_as_needed_is_saturated(summaries):
    """At this load requests wait for a few steps; behind a scheduler that does not keep up they would for seconds."""
    for name in UNRESERVED:
        assert summaries[name]["queue_s"]["mean"] < 0.2
        assert summaries[name]["queue_s"]["max"] < 1


def test_prompts_first_is_best_for_the_first_token_and_worst_for_the_others(summaries):
    """Version 0 of vLLM never lets a prompt wait and stalls decodes: the worst p99 of ITL by half, and twice version 1's."""
    ttft = {name: summaries[name]["ttft_s"] for name in CONTINUOUS}
    itl = {name: summaries[name]["itl_s"] for name in CONTINUOUS}
    for key in ("mean", "p50", "p99"):
        assert min(ttft, key=lambda name: ttft[name][key]) == "vllm-v0"
    assert itl["vllm-v0"]["p99"] > 1.5 * max(itl[name]["p99"] for name in CONTINUOUS if name != "vllm-v0")
    assert itl["vllm-v0"]["p99"] > 2 * itl["vllm-v1, 2048"]["p99"]


def test_small_chunks_trade_first_tokens_for_even_gaps(summaries):
    """With 512 instead of 2048 tokens a step p99 of the gaps is a third, and first tokens a quarter later; Sarathi alike."""
    whole, chunked, sarathi = (summaries[name] for name in ("vllm-v1, 2048", "vllm-v1, 512", "sarathi, 512"))
    assert chunked["itl_s"]["p99"] < whole["itl_s"]["p99"] / 2.5
    assert chunked["ttft_s"]["mean"] > 1.25 * whole["ttft_s"]["mean"]
    for key in ("ttft_s", "itl_s"):
        assert sarathi[key]["p99"] == pytest.approx(chunked[key]["p99"], rel=0.02)


def test_reserving_for_the_longest_makes_a_queue(summaries):
    """Orca fills memory with 26 requests: smaller batches with shorter gaps, and a queue thirty times as long as v1's."""
    orca, v1 = summaries["orca"], summaries["vllm-v1, 2048"]
    engine, other = orca["engines"]["engine"], v1["engines"]["engine"]
    assert engine["kv_blocks_peak"] == 26 * 1024 > engine["kv_blocks"] - 1024
    assert other["kv_blocks_peak"] < engine["kv_blocks_peak"] / 3
    assert engine["mean_decodes"] < other["mean_decodes"]
    assert orca["itl_s"]["p50"] < v1["itl_s"]["p50"]
    assert orca["queue_s"]["mean"] > 30 * v1["queue_s"]["mean"]


def test_static_batches_let_everybody_wait(summaries):
    """Static batching has the worst TTFT of all, padding by far; nobody who decodes is disturbed."""
    worst = sorted(summaries, key=lambda name: summaries[name]["ttft_s"]["p50"])[-2:]
    assert worst == ["static", "static, padded"]
    assert summaries["static, padded"]["ttft_s"]["p50"] > 3 * summaries["static"]["ttft_s"]["p50"]
    assert summaries["static"]["itl_s"]["p99"] == min(summary["itl_s"]["p99"] for summary in summaries.values())


def test_shortest_first_helps_most_and_hurts_some(summaries):
    """Among those who queue for Orca's memory the mean TTFT is half, and p99 more than twice."""
    fcfs, sjf = summaries["orca"]["ttft_s"], summaries["orca, sjf"]["ttft_s"]
    assert sjf["mean"] < fcfs["mean"] / 2
    assert sjf["p99"] > 2 * fcfs["p99"]


def test_padding_is_computed_and_not_counted(summaries):
    """Both static runs give the same tokens; the padded one computes more than twice as many."""
    static, padded = (summaries[name]["engines"]["engine"] for name in ("static", "static, padded"))
    assert static["produced_tokens"] == padded["produced_tokens"]
    assert padded["prefill_tokens"] > 3 * static["prefill_tokens"]
    assert padded["mean_decodes"] * padded["num_steps"] > 2 * static["mean_decodes"] * static["num_steps"]


def test_taking_the_blocks_of_a_whole_prompt_saves_preemptions():
    """With a tenth of the blocks vLLM v1 begins prompts it has no room for; Sarathi-Serve waits, and is through sooner."""
    few = {"serving.max_num_batched_tokens": [512], "serving.num_gpu_blocks_override": [2500]}
    rows = sweep("schedulers", few | {"serving.scheduler": ["vllm-v1", "sarathi"]})
    v1, sarathi = (row.result.summary() for row in rows)
    assert v1["requests"]["preemptions"] > 20 * sarathi["requests"]["preemptions"] > 0
    assert sarathi["ttft_s"]["mean"] < v1["ttft_s"]["mean"] / 2
