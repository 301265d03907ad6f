"""The slowest tokens of a run, in words."""

import pytest

from gpusim.open_run import open_run
from gpusim.report.slowest_tables import first_reason, gap_reason, slowest_tables
from gpusim.results.slowest import SlowGap, slowest_firsts, slowest_gaps


def test_prompts_beside_are_the_reason():
    """A step that computes prompts too says how many tokens, and what they cost."""
    gap = slowest_gaps(open_run("chat", {"workload.num_requests": 40}).record)[0]
    assert f"its step had {gap.num_prefill_tokens:,} prompt tokens beside" in gap_reason(gap)
    assert gap_reason(gap).endswith("% of the time")
    assert "compute" in gap_reason(gap)


@pytest.mark.parametrize(
    ("steps", "prompts", "decodes", "is_preempted", "text"),
    [
        (1, 1, 0, False, "its step had 1 prompt token beside 0 decoding sequences"),
        (1, 2048, 1, False, "its step had 2,048 prompt tokens beside 1 decoding sequence"),
        (1, 0, 2, False, "a step of 2 decoding sequences, without prompts"),
        (2, 1, 3, False, "prompts came first: 1 step with 1 prompt token went by"),
        (3, 0, 3, True, "preempted for want of KV blocks: 2 steps went by without it"),
    ],
)
def test_numbers_agree_with_their_nouns(steps, prompts, decodes, is_preempted, text):
    """One is not many, and none is."""
    gap = SlowGap("engine", 7, 1, 1.0, 0.1, steps, decodes, prompts, {"compute": 1.0}, is_preempted)
    assert gap_reason(gap).startswith(f"{text}; ")


def test_preemption_is_the_reason():
    """Who gave way is said to have, with what went by meanwhile."""
    longest, *others = map(gap_reason, slowest_gaps(open_run("shortage").record))
    assert longest.startswith("preempted for want of KV blocks: 140 steps with")
    assert not any("preempted" in reason for reason in others)


def test_foreign_traffic_is_part_of_the_reason():
    """What the engine waited for is named beside what took most of the time."""
    gaps = slowest_gaps(open_run("busy-neighbour").record, 100)
    alone = [gap_reason(gap) for gap in gaps if not gap.num_prefill_tokens]
    assert alone
    assert all("reading weights" in reason and "waiting for other traffic" in reason for reason in alone)


def test_waits_for_first_tokens_are_divided():
    """The queue and the rest add up to TTFT; the longest comes first."""
    result = open_run("chat", {"workload.num_requests": 20, "serving.max_num_seqs": 1})
    firsts = slowest_firsts(result.record, 20)
    assert [first.ttft_s for first in firsts] == sorted((first.ttft_s for first in firsts), reverse=True)
    assert firsts[0].ttft_s == result.ttft.max
    assert firsts[0].queue_s > 0.5 * firsts[0].ttft_s
    assert " in the queue, then " in first_reason(firsts[0])
    assert "Slowest first tokens" in "".join(slowest_tables(result))
