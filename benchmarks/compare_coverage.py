"""How often `gpusim compare` is right: pairs of runs that differ by seed only, and pairs that differ by 5 % of HBM bandwidth.

    python benchmarks/compare_coverage.py [PAIRS [light|medium|heavy]...]
    FIRST_SEED=200 python benchmarks/compare_coverage.py 100 heavy

Prints, for each load, in how many pairs the verdict was "no change within noise" where there was none, how often each
metric's interval held the truth, and in how many pairs a change of 5 % was found.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from typing import Final

import gpusim as gs
from gpusim.plan import open_scenario, plan_document
from gpusim.units import parse_quantity

SCENARIO = "chat"
"""Lengths of a conversation service on one A100; made short below."""
NUM_REQUESTS = 2000
LOADS = {"light": 2.0, "medium": 8.0, "heavy": 14.0}
"""Requests a second."""
SLOWER = 0.95
OVERRIDES: Final = {
    "model": "llama-3.2-3b",
    "workload.num_requests": NUM_REQUESTS,
    "workload.output_tokens": {"kind": "lognormal", "median": 40, "p99": 200},
}


def run_of(load: float, seed: int, *, bandwidth: float = 1.0) -> gs.Result:
    """Simulate requests of few tokens, so that a run is cheap, on a GPU whose memory has *bandwidth* of its own."""
    document = open_scenario(SCENARIO, OVERRIDES | {"workload.arrivals.rate": f"{load} /s", "seed": seed})
    resolved = plan_document(document).resolved()
    memory = resolved["topology"]["nodes"][0]["device"]["memory"]
    memory["bandwidth"] = bandwidth * parse_quantity(memory["bandwidth"], "bytes/s")
    return gs.simulate(gs.Scenario.model_validate(resolved))


def main(pairs: int, loads: list[str]) -> None:
    """Run the study at every load."""
    for name in loads or LOADS:
        study(name, LOADS[name], pairs)


def study(name: str, load: float, pairs: int) -> None:
    """Compare run i with run i - 1, and with itself on slower memory."""
    began = time.perf_counter()
    verdicts, held, known, found = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    spent_s, lengths = 0.0, []
    first = int(os.environ.get("FIRST_SEED", "0"))
    before = run_of(load, first)
    for seed in range(first + 1, first + pairs + 1):
        run = run_of(load, seed)
        slow = run_of(load, seed, bandwidth=SLOWER)
        start = time.perf_counter()
        by_seed = gs.compare(before, run)
        spent_s += time.perf_counter() - start
        verdicts[by_seed.verdict] += 1
        lengths.append(by_seed.runs[0].block_length)
        for change in by_seed.runs[0].changes:
            if change.interval:
                known[change.metric] += 1
                held[change.metric] += change.interval[0] <= 0 <= change.interval[1]
        found += found_in(gs.compare(run, slow), "same seed") + found_in(gs.compare(before, slow), "another seed")
        before = run
    print(
        f"{name}: {load} requests/s, {pairs} pairs of {NUM_REQUESTS} requests, blocks of {min(lengths)} to {max(lengths)}"
    )
    print(f"  only the seed differs: {dict(verdicts)}")
    print(f"  5 % of HBM bandwidth found: {dict(found)}")
    print(
        "  intervals that hold 0, %:", {metric: round(100 * held[metric] / number) for metric, number in known.items()}
    )
    print(f"  {spent_s / pairs:.2f} s a comparison, {time.perf_counter() - began:.0f} s in all", flush=True)


def found_in(comparison: gs.Comparison, what: str) -> Counter[str]:
    """Count 1 if any metric was found to be worse, and 1 if a gap between tokens was."""
    worse = [change.metric for change in comparison.runs[0].changes if change.verdict == "worse"]
    in_gaps = any(metric.startswith("itl") for metric in worse)
    return Counter({f"{what}, any metric": int(bool(worse)), f"{what}, ITL": int(in_gaps)})


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, sys.argv[2:])
