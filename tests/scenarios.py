"""Small whole scenarios for hypothesis: every scheduler, arrival process and split, with blocks so few that they run out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from gpusim.plan import Plan, plan_document
from gpusim.spec.document import Document
from loads import KINDS

ARRIVALS = ("constant", "poisson", "gamma", "closed", "at_once")
DEPENDENT = ("thinking", "sessions")
"""Workloads whose requests come some time after others are over."""
MACHINES = ("single", "split", "engines")
MODELS = ("tiny", "tiny", "tiny", "tiny-moe", "tiny-mla")


def plan_of(data: dict[str, Any], detail: str) -> Plan:
    """Return the plan of a scenario at *detail*."""
    return plan_document(Document("test.yaml", {**data, "detail": detail}, folder=Path()))


@st.composite
def arrivals(draw: Any, kind: str) -> dict[str, Any]:
    """Arrivals of *kind*, about as fast as the tiny model serves."""
    if kind == "closed":
        return {"kind": kind, "concurrency": draw(st.integers(1, 4))}
    if kind == "thinking":
        return {"kind": "closed", "concurrency": draw(st.integers(1, 4)), "think_time": draw(think_times())}
    if kind == "stages":
        rates = st.sampled_from(["500 /s", "3000 /s", "20000 /s"])
        stage = st.fixed_dictionaries({"rate": rates, "duration": st.sampled_from(["1 ms", "10 ms"])})
        return {"kind": kind, "stages": [*draw(st.lists(stage, max_size=2)), {"rate": draw(rates), "duration": "1 s"}]}
    if kind == "at_once":
        return {"kind": kind}
    stated = {"kind": kind, "rate": f"{draw(st.sampled_from([500, 3000, 20_000]))} /s"}
    return stated | {"burstiness": draw(st.sampled_from([0.2, 3.0]))} if kind == "gamma" else stated


def think_times() -> Any:
    """Times between a request and the next: none, about as long as a step takes, or many of them."""
    means = st.sampled_from(["20 us", "300 us", "5 ms"])
    fixed = st.fixed_dictionaries({"kind": st.just("fixed"), "value": st.sampled_from(["0 s", "100 us"])})
    return st.fixed_dictionaries({"kind": st.just("exponential"), "mean": means}) | fixed


@st.composite
def conversations(draw: Any) -> dict[str, Any]:
    """A few sessions, some of them longer than an engine's blocks or its longest request."""
    kind = draw(st.sampled_from(["constant", "poisson", "gamma", "closed", "at_once", "thinking", "stages"]))
    return {
        "arrivals": draw(arrivals(kind)),
        "prompt_tokens": {"kind": "uniform", "low": 1, "high": draw(st.sampled_from([5, 2]))},
        "output_tokens": {"kind": "uniform", "low": draw(st.sampled_from([5, 1])), "high": 8},
        "sessions": {"turns": {"kind": "uniform", "low": 2, "high": 6}}
        | draw(st.sampled_from([{}, {}, {"max_tokens": 20}]))
        | draw(think_times().map(lambda times: {"think_time": times}) | st.just({})),
        "num_requests": draw(st.sampled_from([14, 9, 4])),
    }


@st.composite
def workloads(draw: Any, kind: str) -> dict[str, Any]:
    """A few requests: long outputs, which run out of blocks; long prompts, some too long; single tokens."""
    if kind == "sessions":
        return draw(conversations())
    prompt, low, high = draw(st.sampled_from([(8, 12, 16), (24, 1, 10), (12, 1, 1)]))
    return {
        "arrivals": draw(arrivals(kind)),
        "prompt_tokens": {"kind": "uniform", "low": 1, "high": prompt},
        "output_tokens": {"kind": "uniform", "low": low, "high": high},
        "num_requests": draw(st.integers(4, 10)),
    }


@st.composite
def hybrids(draw: Any) -> dict[str, Any]:
    """A model of the size of the tiny one whose layers differ: local and global, other KV heads, another stored type."""
    kind = {"mlp": {"intermediate_size": 512}}
    local = {"num_heads": 8, "num_kv_heads": 4, "head_dim": 32, "window": draw(st.sampled_from([1, 4, 9, 30]))}
    full = {"num_heads": 8, "num_kv_heads": draw(st.sampled_from([2, 4])), "head_dim": 32}
    full |= draw(st.sampled_from([{}, {"window": 12}]))
    layers: list[dict[str, Any]] = [kind | {"count": 2, "attention": local}, kind | {"count": 1, "attention": full}]
    layers[1] |= draw(st.sampled_from([{}, {"kv_dtype": "fp8"}]))
    sizes = {"hidden_size": 256, "vocab_size": 1024, "max_model_len": 2048}
    return {"schema": 1, "name": "hybrid", **sizes, "layers": layers, "pattern": [0, 1, 0]}


def models() -> st.SearchStrategy[Any]:
    """The tiny model, most often, one of several kinds of layers, one with experts, one with latent attention."""
    return st.integers(-2, 4).flatmap(lambda number: hybrids() if number < 0 else st.just(MODELS[number]))


def experts() -> st.SearchStrategy[dict[str, Any]]:
    """How experts are split and chosen."""
    return st.fixed_dictionaries(
        {"enable_expert_parallel": st.booleans(), "expert_skew": st.sampled_from([0.0, 0.0, 1.2])}
    )


@st.composite
def servings(draw: Any, tp: int = 1) -> dict[str, Any]:
    """An engine whose blocks hold one request of 24 tokens and little more: longer ones are rejected."""
    max_num_seqs, block_size = draw(st.sampled_from([4, 3, 2, 1])), draw(st.integers(1, 32))
    ruled = draw(rules())
    spare = int(ruled["scheduler"] in ("vllm-v0", "sarathi"))  # a block that must be free for a decode to go on
    serving = {
        "tensor_parallel_size": tp,
        **ruled,
        "max_num_seqs": max_num_seqs,
        "max_num_batched_tokens": draw(st.integers(24 if ruled["scheduler"] == "vllm-v0" else max_num_seqs, 40)),
        "block_size": block_size,
        "num_gpu_blocks_override": -(-24 // block_size) + draw(st.integers(0, 3)) + spare,
    }
    if serving["scheduler"] == "continuous":
        serving |= {"async_scheduling": draw(st.booleans()), "enable_prefix_caching": draw(st.booleans())}
    # Orca reserves blocks for the longest request.
    longest = [{"max_model_len": 20}] if ruled["scheduler"] == "orca" else [{}, {"max_model_len": 20}]
    return serving | draw(st.sampled_from(longest))


@st.composite
def rules(draw: Any) -> dict[str, Any]:
    """A scheduler and a policy; a quarter of them the default ones."""
    kinds = [kind.split() for kind in (*["continuous fcfs"] * 5, *KINDS)]
    scheduler, *padded, policy = draw(st.sampled_from(kinds))
    return {"scheduler": scheduler, "scheduling_policy": policy, **({"pad": True} if padded else {})}


@st.composite
def scenarios(draw: Any, kind: str, machine: str) -> dict[str, Any]:
    """One engine on one GPU or split over some, or several that share a machine, some with requests of their own."""
    data: dict[str, Any] = {"schema": 1, "model": draw(models()), "workload": draw(workloads(kind))}
    data |= {"seed": draw(st.integers(0, 9)), "detail": draw(st.sampled_from(["kernel", "step"]))}
    if machine == "single":
        return data | {"topology": "single-gpu", "serving": draw(servings())}
    data["topology"] = "dgx-a100-80gb"
    if machine == "split":
        own = draw(experts()) if data["model"] in ("tiny-moe", "tiny-mla") else {}
        return data | {"serving": draw(servings(draw(st.sampled_from([2, 4, 8])))) | own}
    if machine == "replicas":
        return data | draw(replicas())
    return data | {"engines": draw(_engines(kind))}


@st.composite
def replicas(draw: Any) -> dict[str, Any]:
    """A model with experts, which several replicas share."""
    tp, dp = draw(st.sampled_from([(1, 2), (1, 4), (2, 2), (2, 4), (4, 2)]))
    sharing = {"data_parallel_size": dp, "enable_expert_parallel": True}
    sharing |= {"expert_skew": draw(st.sampled_from([0.0, 1.2]))}
    return {"model": draw(st.sampled_from(["tiny-moe", "tiny-mla"])), "serving": draw(servings(tp)) | sharing}


@st.composite
def _engines(draw: Any, kind: str) -> list[dict[str, Any]]:
    gpus = iter(range(8))
    engines = []
    for number in range(draw(st.integers(2, 3))):
        tp = draw(st.sampled_from([1, 1, 2]))
        own = {"workload": draw(workloads(kind))} if draw(st.booleans()) else {}
        names = [f"gpu{next(gpus)}" for _ in range(tp)]
        engines.append({"name": f"engine{number}", "gpus": names, "serving": draw(servings(tp)), **own})
    return engines


@st.composite
def swapping(
    draw: Any, scenario: st.SearchStrategy[dict[str, Any]], prompt: int = 8, output: int = 16
) -> dict[str, Any]:
    """A *scenario* with long outputs in which who is preempted is swapped, to host memory with room for few or for all."""
    data = draw(scenario) | {"model": "tiny"}
    lengths = {
        "prompt_tokens": {"kind": "uniform", "low": 1, "high": prompt},
        "output_tokens": {"kind": "uniform", "low": output * 3 // 4, "high": output},
    }
    for part in (data, *data.get("engines", [])):
        if "serving" in part:
            for key in ("enable_expert_parallel", "expert_skew"):
                part["serving"].pop(key, None)
            part["serving"] |= draw(_swaps(part["serving"], prompt + output))
        if "workload" in part:
            part["workload"] |= lengths
    return data


@st.composite
def _swaps(draw: Any, serving: dict[str, Any], longest: int) -> dict[str, Any]:
    size, tp = serving["block_size"], serving["tensor_parallel_size"]
    # The tiny model has 1024 bytes of KV a token; with more ranks than KV heads each rank has a whole head.
    block_bytes = size * 1024 // min(tp, 4)
    num_blocks = draw(st.sampled_from([1000, 4, 1])) * (1 if size > 4 else 4)
    seats = max(3, serving["max_num_seqs"])
    return {
        "scheduler": "continuous",
        "scheduling_policy": "fcfs",
        "pad": False,
        "async_scheduling": False,
        "preemption_mode": "swap",
        "swap_space": f"{num_blocks * block_bytes} B",
        "num_gpu_blocks_override": -(-longest // size) + draw(st.integers(0, 3)),
        "watermark": draw(st.sampled_from([0.0, 0.0, 0.2])),
        "max_num_seqs": seats,
        "max_num_batched_tokens": max(seats, serving["max_num_batched_tokens"]),
    }
