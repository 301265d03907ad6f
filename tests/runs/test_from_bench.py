"""Results of ``vllm bench serve`` become runs that can be simulated; the samples are written after its format."""

import json

import polars as pl
import pytest
from typer.testing import CliRunner

from gpusim.cli import app
from gpusim.errors import SpecError
from gpusim.runs.from_bench import Server, convert, engine_keys
from gpusim.runs.layout import METRICS, read_folder
from gpusim.runs.models import model_of, stated_model
from gpusim.runs.predictions import predict
from gpusim.spec.document import validate
from gpusim.spec.model import ModelSpec
from gpusim.spec.names import read

SUMMARY = {
    "date": "20260102-030405",
    "backend": "openai",
    "label": "openai",
    "model_id": "meta-llama/Llama-3.1-8B-Instruct",
    "num_prompts": 5,
    "request_rate": 10.0,
    "burstiness": 1.0,
    "max_concurrency": None,
    "duration": 2.0,
    "completed": 4,
    "failed": 1,
    "total_input_tokens": 1000,
    "total_output_tokens": 16,
    "mean_ttft_ms": 30.0,
    "p99_ttft_ms": 50.0,
    "mean_tpot_ms": 8.0,
    "mean_e2el_ms": 60.0,
}
DETAIL = {
    "input_lens": [100, 300, 200, 200, 400],
    "output_lens": [4, 4, 0, 4, 4],
    "ttfts": [0.020, 0.030, 0.0, 0.030, 0.040],
    "itls": [[0.007, 0.008, 0.009], [0.008] * 3, [], [0.008] * 3, [0.008] * 3],
    "start_times": [900.0, 900.5, 900.6, 900.25, 901.0],
    "generated_texts": ["a", "b", "", "c", "d"],
    "errors": ["", "", "Traceback: connection reset", "", ""],
}
SERVER = Server("H100", engine={"version": "0.15.1", "max_num_seqs": 8})


def converted(path, *results, server=SERVER):
    """Convert *results* of one file, and return the experiments."""
    file = path / "bench.json"
    file.write_text("\n".join(json.dumps(result) for result in results))
    convert([file], path / "runs", server)
    return read_folder(path / "runs")


def test_requests_are_replayed_as_they_were_sent(tmp_path):
    """In order of sending, from 0 on, without the one that failed."""
    (run,) = converted(tmp_path, SUMMARY | DETAIL)
    table = pl.read_csv(run.folder / run.workload["requests_file"])
    assert table["arrival_s"].to_list() == [0.0, 0.25, 0.5, 1.0]
    assert table["prompt_tokens"].to_list() == [100, 200, 300, 400]
    assert table["e2e_s"].to_list() == pytest.approx([0.044, 0.054, 0.054, 0.064])
    assert run.measured["ttft_mean_s"] == pytest.approx(0.03)
    assert run.measured["itl_mean_s"] == pytest.approx(0.008)
    assert set(run.measured) == set(METRICS)
    assert run.data["measured"]["token_gap_s"]["p50.0"] == pytest.approx(0.008)
    assert (run.data["measured"]["num_ok"], run.data["measured"]["num_failed"]) == (4, 1)


def test_a_converted_run_is_simulated(tmp_path):
    """From both kinds of result: with times of each request, and with means only."""
    for number, result in enumerate((SUMMARY | DETAIL, SUMMARY)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (run,) = converted(folder, result)
        prediction = predict(run)
        assert prediction.reason == ""
        assert set(prediction.metrics) == set(METRICS)


def test_without_detail_there_is_a_load_stage(tmp_path):
    """The rate, the mean lengths, and those metrics that are stated."""
    (run,) = converted(tmp_path, SUMMARY)
    assert run.workload["stages"] == [{"rate_rps": 10.0, "duration_s": 0.5}]
    assert (run.workload["prompt_tokens_mean"], run.workload["output_tokens_requested"]) == (250, 4)
    assert run.measured == {"ttft_mean_s": 0.03, "ttft_p99_s": 0.05, "itl_mean_s": 0.008, "e2e_mean_s": 0.06}


def test_latencies_are_taken_where_they_are_stated(tmp_path):
    """Newer versions write them; the last event may be behind the last token."""
    (run,) = converted(tmp_path, SUMMARY | DETAIL | {"latencies": [0.1] * 5})
    assert run.measured["e2e_mean_s"] == pytest.approx(0.1)


def test_all_at_once_needs_no_times_of_sending(tmp_path):
    """Older versions do not say when requests were sent; at an infinite rate all were at 0."""
    older = {key: value for key, value in DETAIL.items() if key != "start_times"}
    (run,) = converted(tmp_path, SUMMARY | older | {"request_rate": "inf"})
    assert set(pl.read_csv(run.folder / run.workload["requests_file"])["arrival_s"]) == {0.0}


def test_gaps_between_events_of_several_tokens_are_left_out(tmp_path):
    """They are not gaps between tokens."""
    merged = DETAIL | {"itls": [[0.012, 0.012], [0.024], [], [0.008] * 3, [0.008] * 3]}
    (run,) = converted(tmp_path, SUMMARY | merged)
    assert "token_gap_s" not in run.data["measured"]


def test_a_file_may_hold_several_results(tmp_path):
    """``--append-result`` puts one behind another."""
    assert [run.name for run in converted(tmp_path, SUMMARY, SUMMARY | DETAIL)] == ["bench-1", "bench-2"]


@pytest.mark.parametrize(
    ("result", "server", "reason"),
    [
        (SUMMARY | {"request_rate": "inf"}, SERVER, "--save-detailed"),
        (SUMMARY | {"max_concurrency": 4}, SERVER, "--save-detailed"),
        (SUMMARY | {"burstiness": 0.5}, SERVER, "--save-detailed"),
        (SUMMARY | {"model_id": "somebody/else"}, SERVER, "--model"),
        (SUMMARY, Server("H100", model="deepseek-v3"), "cannot be stated"),
        (SUMMARY | DETAIL | {"ttfts": [0.1]}, SERVER, "not of one length"),
        (SUMMARY | {"completed": 0}, SERVER, "no request has finished"),
        (SUMMARY | DETAIL | {"errors": ["no"] * 5}, SERVER, "no request has finished"),
        ({"hello": 1}, SERVER, "no result of vllm bench serve"),
    ],
)
def test_what_says_too_little_is_refused(tmp_path, result, server, reason):
    """The message names the file and what is missing; nothing is written."""
    with pytest.raises(SpecError, match=reason) as error:
        converted(tmp_path, result, server=server)
    assert "bench.json" in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_engine_keys_are_those_of_experiments():
    """Numbers and truths are read as such, versions as words."""
    found = engine_keys(["version=0.15", "max_num_seqs=128", "prefix_caching=True", "kv_dtype=fp8"])
    assert found == {"version": "0.15", "max_num_seqs": 128, "prefix_caching": True, "kv_dtype": "fp8"}
    for text, reason in (
        ("max_num_seqs", "KEY=VALUE"),
        ("seqs=3", "unknown engine key"),
        ("max_num_seqs=many", "neither"),
    ):
        with pytest.raises(SpecError, match=reason):
            engine_keys([text])


@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen2.5-7b", "mixtral-8x7b", "qwen3-30b-a3b", "falcon-7b"])
def test_stated_models_are_found_again(name):
    """A model of the catalog, stated as experiments do, is the same model."""
    model = validate(ModelSpec, read("model", name))
    assert model_of(stated_model(model)).layers == model.layers


def test_the_command_writes_what_validate_reads(tmp_path):
    """From a result file to errors."""
    file = tmp_path / "one.json"
    file.write_text(json.dumps(SUMMARY | DETAIL))
    run, folder = CliRunner(), str(tmp_path / "runs")
    arguments = ["runs", "from-bench", str(file), "--out", folder, "--gpu", "h100", "--engine", "max_num_seqs=8"]
    assert run.invoke(app, arguments).exit_code == 0
    answer = run.invoke(app, ["validate", "serving", folder, "--json"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["mean"]["runs"] == 1
    assert "unknown engine key" in run.invoke(app, [*arguments, "--engine", "a=1"]).output
