"""`gpusim explain`: changes are differences of recorded runs, and sentences say what the numbers do."""

import json

import pytest
from typer.testing import CliRunner

import gpusim as gs
from builders import build_simulation
from gpusim.cli import app
from gpusim.errors import SpecError
from gpusim.explain.explanation import explain
from gpusim.explain.groups import groups_of, latencies
from gpusim.explain.runs import simulate_all
from gpusim.explain.variants import Variant, without
from gpusim.plan import plan_document
from gpusim.simulation import Simulation
from gpusim.spec.document import Document
from gpusim.spec.what_if import FACTORS

SHORT = {"workload.num_requests": 15}
POISSON = {"kind": "poisson", "rate": "2000 /s"}
STREAM = {
    "arrivals": {"kind": "poisson", "rate": "400 /s"},
    "prompt_tokens": {"kind": "fixed", "value": 30},
    "output_tokens": {"kind": "fixed", "value": 8},
    "num_requests": 10,
}


def test_sensitivities_are_differences_of_two_recorded_runs(tmp_path):
    """Read back, the run with a factor and the stated one differ by just what is said."""
    told = explain(gs.simulate(gs.load("chat", overrides=SHORT)), out=tmp_path)
    assert [row["what"] for row in told["sensitivities"]] == list(FACTORS)
    stated = gs.read_result(tmp_path / "stated")
    for row in told["sensitivities"]:
        changed = gs.read_result(tmp_path / row["what"])
        assert changed.record.scenario["what_if"][row["what"]] == row["times"]
        for figure in ("itl.p50", "itl.p99", "ttft.p50", "ttft.p99"):
            metric, quantile = figure.split(".")
            old, new = (getattr(getattr(run, metric), quantile) for run in (stated, changed))
            assert row["change"]["all"][f"{metric}_{quantile}_s"] == new / old - 1
        assert set(row["interval"]["all"].values()) == {None}
    assert told["notes"] == ["too few requests to say how sure changes of ITL p50, ITL p99, TTFT p50, TTFT p99 are"]


def test_intervals_are_those_of_compare(tmp_path):
    """Of the recorded runs `gpusim.compare` says the same, in four metrics at once; too few slow requests have none."""
    result = build_simulation(detail="step", workload__num_requests=300, workload__arrivals=POISSON).run()
    told = explain(result, out=tmp_path)
    stated, metrics = gs.read_result(tmp_path / "stated"), ["itl.p50", "itl.p99", "ttft.p50", "ttft.p99"]
    for row in told["sensitivities"]:
        compared = gs.compare(stated, gs.read_result(tmp_path / row["what"]), metrics=metrics)
        for metric in metrics:
            interval = row["interval"]["all"][f"{metric.replace('.', '_')}_s"]
            assert interval == (compared[metric].interval and list(compared[metric].interval))
    assert told["sensitivities"][0]["interval"]["all"]["itl_p50_s"][1] < 0
    assert told["sensitivities"][0]["interval"]["all"]["ttft_p99_s"] is None
    assert told["notes"] == ["too few requests to say how sure changes of ITL p99, TTFT p99 are"]


def test_intervals_of_a_stream_pair_its_requests():
    """Those of the stream that is left are the same requests, whatever their numbers are without the other."""
    chat = STREAM | {"arrivals": {"kind": "poisson", "rate": "100 /s"}, "num_requests": 200, "name": "chat"}
    long = chat | {"prompt_tokens": {"kind": "fixed", "value": 900}, "name": "documents"}
    workload = {"merge": [long, chat]}
    result = build_simulation(detail="step", workload=workload, serving={"max_num_batched_tokens": 1024}).run()
    rows = {row["what"]: row for row in explain(result)["without"]}
    low, high = rows["stream documents"]["interval"]["stream chat"]["itl_p50_s"]
    change = rows["stream documents"]["change"]["stream chat"]["itl_p50_s"]
    assert low <= change <= high


def test_processes_change_nothing():
    """Runs simulated side by side say what those one after the other do."""
    result = build_simulation(detail="step").run()
    assert explain(result, processes=2) == explain(result)


def test_runs_whose_names_differ_in_signs_only_are_all_kept(tmp_path):
    """No system takes all signs in names; what two names become in common is told apart by a number."""
    scenario = build_simulation(detail="step").run().record.scenario
    names = ("stated", "background a b", "background a-b")
    simulate_all([Variant(name, dict(scenario)) for name in names], out=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"stated", "background-a-b", "background-a-b-2"}


def test_factors_multiply_what_the_scenario_states():
    """Of a run that is a what-if itself, the changes are from there on."""
    result = build_simulation(detail="step", what_if__hbm_bandwidth=2.0).run()
    row = explain(result)["sensitivities"][0]
    again = build_simulation(detail="step", what_if__hbm_bandwidth=2.2).run()
    assert row["latencies"]["all"] == latencies(again)["all"]


def test_background_and_engines_are_left_out_one_by_one():
    """The foreign copy costs what it is in the way; the engine beside, which shares nothing, costs nothing."""
    engines = [{"name": name, "gpus": [f"gpu{n}"], "workload": STREAM} for n, name in enumerate(("one", "two"))]
    copy = {"kind": "copy", "name": "stream", "from": "gpu0", "to": "gpu0", "rate": "300 GB/s"}
    simulation = build_simulation(topology="dgx-a100-80gb", detail="step", engines=engines, background=[copy])
    told = explain(simulation.run())
    changes = {row["what"]: row["change"] for row in told["without"]}
    assert list(changes) == ["background stream", "engine one", "engine two"]
    assert changes["background stream"]["engine one"]["itl_mean_s"] < 0
    assert changes["background stream"]["engine two"]["itl_mean_s"] == 0
    assert list(changes["engine one"]) == ["engine two"]
    assert changes["engine one"]["engine two"]["itl_mean_s"] == 0


def test_merged_streams_are_told_apart_and_left_out():
    """Without the long prompts of the one stream the tokens of the other come sooner; its requests are the same."""
    long = STREAM | {"prompt_tokens": {"kind": "fixed", "value": 900}, "name": "documents"}
    workload = {"merge": [long, STREAM | {"name": "chat"}]}
    result = build_simulation(detail="step", workload=workload, serving={"max_num_batched_tokens": 1024}).run()
    groups = groups_of(result)
    assert {name: int(mask.sum()) for name, mask in groups.items()} == {
        "all": 20,
        "stream documents": 10,
        "stream chat": 10,
    }
    prompts = result.record.requests.rows["prompt_tokens"]
    assert set(prompts[groups["stream documents"]]) == {900}
    changes = {row["what"]: row["change"] for row in explain(result)["without"]}
    assert list(changes["stream documents"]) == ["stream chat"]
    assert changes["stream documents"]["stream chat"]["ttft_mean_s"] < 0


def test_of_a_limit_the_stream_that_is_left_keeps_its_part():
    """Cut to 12 requests, each stream alone has those it had of them, and no more."""
    workload = {"merge": [STREAM | {"name": "one"}, STREAM | {"name": "two"}], "num_requests": 12}
    result = build_simulation(detail="step", workload=workload).run()
    groups, rows = groups_of(result), result.record.requests.rows
    for variant, left in zip(without(result.record.scenario), ("stream two", "stream one"), strict=True):
        alone = Simulation(plan_document(Document("alone", variant.scenario))).run().record.requests.rows
        assert sorted(alone["arrival_ps"]) == sorted(rows["arrival_ps"][groups[left]])
        assert len(alone) < 12


def test_engines_that_read_pooled_kv_wait_for_each_other():
    """Over one root port both get half: what is `waiting` in their gaps is just what they are shorter without the other.

    Faster links shorten gaps, and faster memory hardly does; beside the weights KV costs a small part, and nobody waits.
    """
    load = STREAM | {
        "arrivals": {"kind": "at_once"},
        "prompt_tokens": {"kind": "fixed", "value": 1500},
        "num_requests": 4,
    }
    engines = [{"name": name, "gpus": [f"gpu{n}"], "workload": load} for n, name in enumerate(("one", "two"))]
    serving = {"max_num_seqs": 8, "max_num_batched_tokens": 6000, "num_gpu_blocks_override": 1000}
    pooled, sharded = (
        explain(
            build_simulation(
                topology="pcie-4gpu-2root", detail="step", engines=engines, serving=serving | {"kv_placement": place}
            ).run()
        )
        for place in ("pooled", "sharded")
    )
    spent, beside = (told["itl"]["all"]["seconds"] for told in (pooled, sharded))
    without_two = {row["what"]: row for row in pooled["without"]}["engine two"]
    shorter_s = pooled["latencies"]["engine one"]["itl_mean_s"] - without_two["latencies"]["engine one"]["itl_mean_s"]
    assert shorter_s == pytest.approx(spent["waiting"], rel=1e-6)
    assert spent["waiting"] > 0.3 * pooled["itl"]["all"]["mean_s"]
    changes = {row["what"]: row["change"]["all"]["itl_mean_s"] for row in pooled["sensitivities"]}
    assert changes["link_bandwidth"] < -0.05 < 100 * changes["hbm_bandwidth"] <= 0
    assert spent["kv"] > 10 * beside["kv"]
    assert beside["waiting"] == 0
    assert {row["change"]["engine one"]["itl_mean_s"] for row in sharded["without"] if row["what"] == "engine two"} == {
        0
    }


def test_one_engine_is_all_there_is():
    """An engine that serves all requests has no row of its own beside that of all."""
    engines = [{"name": "only", "gpus": ["gpu0"]}]
    copy = {"kind": "copy", "name": "stream", "from": "gpu0", "to": "gpu0", "rate": "300 GB/s"}
    told = explain(build_simulation(detail="step", engines=engines, background=[copy]).run())
    assert [list(row["change"]) for row in told["without"]] == [["all"]]


def test_sentences_name_the_cause_and_the_resource():
    """On the chat example: prefills of others, memory for the median, processors for the slow tokens."""
    said = " ".join(explain(gs.simulate(gs.load("chat")))["sentences"])
    assert "carry the prefill of other requests" in said
    assert "Memory bandwidth matters most: 10 % better makes ITL p50" in said
    assert "Processor speed matters most" in said


def test_a_factor_must_be_an_improvement():
    """A factor of 1 or less is an error that says what to write."""
    with pytest.raises(SpecError, match="above 1"):
        explain(build_simulation().run(), factor=1.0)


def test_the_command_prints_tables_or_json(tmp_path):
    """From a saved run, with and without further runs."""
    gs.simulate(gs.load("chat", overrides=SHORT)).save(tmp_path / "run")
    shown = CliRunner().invoke(app, ["explain", str(tmp_path / "run"), "--processes", "1"])
    assert shown.exit_code == 0
    assert "Change with each 10 % better" in shown.stdout
    told = CliRunner().invoke(app, ["explain", str(tmp_path / "run"), "--no-sensitivity", "--json"])
    assert json.loads(told.stdout)["sensitivities"] == []
