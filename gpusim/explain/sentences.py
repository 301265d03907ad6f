"""The short of an explanation, in sentences made of its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gpusim.explain.groups import ALL

NAMES: Final = {
    "hbm_bandwidth": "memory bandwidth",
    "flops": "processor speed",
    "link_bandwidth": "link bandwidth",
    "link_latency": "link latency",
    "launch": "launch time",
    "host": "host time",
}
"""What the factors are called."""
FIGURE_NAMES: Final = {
    "itl_p50_s": "ITL p50",
    "itl_p99_s": "ITL p99",
    "ttft_p50_s": "TTFT p50",
    "ttft_p99_s": "TTFT p99",
}
"""What the figures are called whose changes are shown."""
PARTS: Final = {
    "weights": "reading weights",
    "kv": "reading KV",
    "activations": "moving activations",
    "compute": "compute",
    "communication": "collectives",
    "launch": "launches and the host",
    "waiting": "waiting for other traffic",
    "transfer": "waiting for KV from host memory",
    "paused": "pauses in which the engine did not work on them",
    "jitter": "jitter on the way to the client",
}
"""What the parts of a token's time are called."""
_MOST: Final = 0.5
"""Of the slow tokens' steps with prompts of others, from where on that is their reason."""
_FELT: Final = 0.01
"""Changes below are left out."""
_TOLD: Final = ("itl_p50_s", "itl_p99_s", "ttft_p99_s")
"""Figures of which sentences speak."""
_CAUSES: Final = {
    "step_under_way": "the end of a step under way",
    "step_in_flight": "a step whose batch was fixed already",
    "token_budget": "steps whose token budget was full",
    "seats": "a seat in the batch (max_num_seqs)",
    "kv_blocks": "KV blocks",
    "policy": "others who came later and go first by the policy",
}


def sentences(told: Mapping[str, Any]) -> list[str]:
    """Return what stands out of *told*, as `explain` puts it together."""
    found = []
    if told["itl"]:
        found.append(_slow(told["itl"]))
    found += [*_queue(told), *_resource(told), *_culprits(told)]
    ratio = told["bound"]["ratio"]
    if ratio:
        found.append(f"Steps take {ratio:.2f} times what weights, KV, FLOPs and collectives take at peak.")
    return found


def _slow(itl: Mapping[str, Any]) -> str:
    slow, median = itl["slow"], itl["median"]
    if slow["mean_s"] < median["mean_s"] * 1.05:
        return f"All tokens wait about as long: the slowest 1 % {slow['mean_s'] / median['mean_s']:.2f} times as long as the median."
    beside, usual = slow["beside_prefill"]["share"], median["beside_prefill"]["share"]
    more = {part: slow["seconds"][part] - median["seconds"][part] for part in slow["seconds"]}
    most = max(more, key=lambda part: more[part])
    spent = [f"{1e3 * group['seconds'][most]:.3g} ms" for group in (slow, median)]
    reason = f"{PARTS[most]}: {spent[0]} of theirs, {spent[1]} of the median's"
    if most != "paused" and beside >= _MOST > usual:
        reason = (
            f"{100 * beside:.0f} % of their steps carry the prefill of other requests, {100 * usual:.0f} % of the median's; "
            + reason
        )
    times = slow["mean_s"] / median["mean_s"]
    return f"The slowest 1 % of tokens wait {times:.1f} times as long as the median: {reason}."


def _queue(told: Mapping[str, Any]) -> Iterator[str]:
    ttft, queue = told["ttft"], told["queue"]
    if ttft and queue and ttft["all"]["share"]["queue"] >= _MOST / 2:
        cause = max(queue["share"], key=lambda name: queue["share"][name])
        share, part = ttft["all"]["share"]["queue"], queue["share"][cause]
        yield (
            f"{100 * share:.0f} % of the time to the first token is the queue, {100 * part:.0f} % of that for {_CAUSES[cause]}."
        )


def _resource(told: Mapping[str, Any]) -> Iterator[str]:
    """Name the factor that matters most for the median gap, and for the 99th percentile."""
    percent = 100 * (told["factor"] - 1)
    named: dict[str, list[str]] = {}
    for figure in _TOLD:
        gains = {row["what"]: -(row["change"][ALL][figure] or 0.0) for row in told["sensitivities"]}
        if gains and max(gains.values()) >= _FELT:
            best = max(gains, key=lambda name: gains[name])
            interval = next(row["interval"][ALL][figure] for row in told["sensitivities"] if row["what"] == best)
            named.setdefault(best, []).append(
                f"{FIGURE_NAMES[figure]} {100 * gains[best]:.1f} %{_between(interval, -1)}"
            )
    few = _few([row["interval"][ALL] for row in told["sensitivities"] if row["what"] in named])
    for name, gained in named.items():
        yield f"{NAMES[name].capitalize()} matters most: {percent:.3g} % better makes {', '.join(gained)} shorter{few}."


def _culprits(told: Mapping[str, Any]) -> Iterator[str]:
    """Say what without each of those that were in the way is shorter, or longer."""
    for row in told["without"]:
        for group, change in row["change"].items():
            felt = [figure for figure in _TOLD if abs(change[figure] or 0.0) >= _FELT]
            changed = [f"{FIGURE_NAMES[name]} {_changed(change[name], row['interval'][group][name])}" for name in felt]
            if changed:
                of = "" if group == ALL else f", of {group}"
                yield f"Without {row['what']}{of}: {', '.join(changed)}{_few([row['interval'][group]])}."


def _few(intervals: Sequence[Mapping[str, Any]]) -> str:
    """Say that changes are of these requests alone, where they are too few to tell of others."""
    unknown = any(each[figure] is None for each in intervals for figure in _TOLD)
    return ", for these few requests" if unknown else ""


def _changed(change: float, interval: tuple[float, float] | None) -> str:
    word, sign = ("shorter", -1) if change < 0 else ("longer", 1)
    return f"{100 * abs(change):.1f} %{_between(interval, sign)} {word}"


def _between(interval: tuple[float, float] | None, sign: int) -> str:
    """Return the *interval* of a change as a remark behind it; of *sign* -1 turned into one of how much shorter."""
    if interval is None:
        return ""
    low, high = sorted(100 * sign * end for end in interval)
    return f" ({low:.1f} to {high:.1f}{', within noise' if low <= 0 <= high else ''})"
