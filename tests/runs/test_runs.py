"""Measured runs become scenarios by their inputs alone, and metrics are as the data's README defines them."""

import json
from pathlib import Path

import numpy as np
import pytest

from gpusim.errors import SpecError
from gpusim.runs.layout import METRICS, read_folder
from gpusim.runs.models import model_of
from gpusim.runs.predictions import predict, predict_all, write_predictions
from gpusim.runs.scenarios import scenario_of
from gpusim.runs.scores import beside_peers, mean_errors
from gpusim.units import GiB
from helpers import shared_data
from measured_runs import EXPERIMENT, MODEL


def folder_of(path, *changes):
    """Write experiments, each `EXPERIMENT` with changes, and return their folder."""
    (path / "experiments").mkdir(exist_ok=True)
    for number, change in enumerate(changes):
        data = EXPERIMENT | {"experiment_id": f"run{number}"} | change
        (path / "experiments" / f"{number}.json").write_text(json.dumps(data))
    return path


def one(path, **change):
    """Return a single experiment."""
    (experiment,) = read_folder(folder_of(path, change))
    return experiment


def test_the_gpu_is_the_one_whose_facts_fit(tmp_path):
    """A name alone may be several devices; memory and bandwidth tell them apart."""
    found = {}
    for name, memory, bandwidth in (
        ("H100", 80, 3350),
        ("H100", 94, 3938),
        ("A100-80GB", 80, 2039),
        ("RTXPRO6000", 96, 1597),
    ):
        system = {"gpu": name, "num_gpus": 1, "gpu_facts": {"memory_gb": memory, "memory_bw_gb_s": bandwidth}}
        node = scenario_of(one(tmp_path, system=system), tmp_path).topology.nodes[0]
        found[name, memory] = node.device if isinstance(node.device, str) else node.device.name
    assert list(found.values()) == ["h100-sxm", "h100-nvl", "a100-sxm-80gb", "rtx-pro-6000-server"]


def test_models_are_the_catalogs_where_it_has_the_architecture():
    """What experiments leave out, as top-p, comes from the catalog; another architecture is described as stated."""
    assert model_of(MODEL).name == "llama-3.1-8b"
    assert model_of(MODEL).generation.top_p == 0.9
    other = model_of(MODEL | {"num_layers": 16, "name": "somebody/new-model"})
    assert (other.name, other.num_layers, other.layers[0].attention.num_kv_heads) == ("new-model", 16, 8)


def test_experts_are_described():
    """A mixture of experts that the catalog does not have."""
    moe = {"num_experts": 16, "top_k": 4, "expert_intermediate_size": 1024, "every_layer": True}
    mlp = model_of(MODEL | {"moe": moe}).layers[0].mlp
    assert (mlp.num_experts, mlp.experts_per_token, mlp.expert_intermediate_size) == (16, 4, 1024)


def test_prompts_are_cycled_and_hit_the_cache(tmp_path):
    """From the second time on a prompt is computed but for its last, partial block."""
    prediction = predict(one(tmp_path), engine="none")
    assert not prediction.reason
    cold = one(tmp_path, engine=EXPERIMENT["engine"] | {"prefix_caching": False})
    assert predict(cold, engine="none").metrics["ttft_mean_s"] > prediction.metrics["ttft_mean_s"]


def test_offload_is_taken_as_stated(tmp_path):
    """Host memory is that of all ranks together, 8 GiB where it is not recorded; without a prefix cache nothing is kept."""

    def offload(system, **engine):
        stated = one(tmp_path, system=EXPERIMENT["system"] | system, engine=EXPERIMENT["engine"] | engine)
        return scenario_of(stated, tmp_path).serving.kv_offload

    assert offload({}) is None
    assert offload({}, kv_cpu_offload=True).size == 8 * GiB
    two = {"num_gpus": 2, "tensor_parallel": 2}
    assert offload(two, kv_cpu_offload=True, kv_cpu_offload_gib=16).size == 8 * GiB
    assert offload({}, kv_cpu_offload=True, prefix_caching=False) is None


def test_requests_are_replayed_from_their_file(tmp_path):
    """Arrivals, lengths and prompt ids are those of the file; its order of rows is of no account."""
    header = "index,arrival_s,prompt_id,prompt_tokens,output_tokens_requested"
    rows = ["0,0.0,0,300,5", "1,0.5,1,200,5", "2,1.0,0,300,5"]
    predicted = []
    for order in (rows, rows[::-1]):
        (tmp_path / "r.csv").write_text("\n".join([header, *order]) + "\n")
        predicted.append(
            predict(one(tmp_path, workload={"kind": "general", "requests_file": "r.csv"}), engine="none").metrics
        )
    assert predicted[0] == predicted[1]
    assert set(predicted[0]) == set(METRICS)


def test_a_following_turn_shares_what_it_can_reuse(tmp_path):
    """Reusable tokens are the whole blocks of an earlier prompt, which the later one repeats."""
    (tmp_path / "r.csv").write_text(
        "arrival_s,prompt_tokens,prefix_reusable_tokens,output_tokens\n0,330,0,3\n1,500,320,3\n2,600,0,3\n"
    )
    scenario_of(one(tmp_path, workload={"kind": "sharegpt", "requests_file": "r.csv"}), tmp_path)
    texts = [line.split(",")[3] for line in (tmp_path / "run0.csv").read_text().splitlines()[1:]]
    assert texts == ["0", "0", "2"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"system": {"gpu": "Z9", "num_gpus": 1}}, "no device 'Z9' in the catalog"),
        ({"system": EXPERIMENT["system"] | {"pipeline_parallel": 2}}, "pipeline_parallel = 2: not modelled"),
        ({"workload": {"kind": "general"}}, "workload: neither requests_file nor stages"),
        ({"model": MODEL | {"num_layers": None}}, "model.num_layers: the experiment does not state it"),
        ({"model": MODEL | {"num_layers": 500}}, "does not fit h100-sxm"),
        ({"engine": {"weight_dtype": "fp5"}}, "engine.weight_dtype: 'fp5' is not known"),
    ],
)
def test_a_run_that_cannot_be_simulated_has_a_reason(tmp_path, change, reason):
    """It is named, and the others are simulated all the same."""
    assert reason in predict(one(tmp_path, **change)).reason


def test_recorded_blocks_that_do_not_fit_are_those_that_do(tmp_path):
    """A count a little beyond what memory holds by our reckoning is no reason not to simulate."""
    engine = EXPERIMENT["engine"] | {"num_gpu_kv_blocks": 10**6}
    assert predict(one(tmp_path, engine=engine)).metrics == predict(one(tmp_path)).metrics


def test_measured_values_only_score(tmp_path):
    """Without them the predictions are the same, to the byte."""
    files = []
    for number, change in enumerate(({}, {"measured": None, "peers": None, "measured_by_stage": None})):
        experiments = read_folder(folder_of(tmp_path, change))
        files.append(tmp_path / f"out{number}.json")
        write_predictions(predict_all(experiments), files[-1])
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_gpu_can_be_taken_for_unmeasured(tmp_path):
    """Its laws are then its donor's, and the run a little faster or slower."""
    experiment = one(tmp_path)
    device = scenario_of(experiment, tmp_path, left_out=True).topology.nodes[0].device
    assert (device.name, device.laws) == ("h100-sxm", None)
    own, lent = (predict(experiment, left_out=left_out).metrics["itl_mean_s"] for left_out in (False, True))
    assert own != lent
    assert lent == pytest.approx(own, rel=0.3)


def test_the_order_of_experiments_is_of_no_account(tmp_path):
    """Each is simulated by itself, from its own inputs; its name is none."""
    changes = ({}, {"engine": EXPERIMENT["engine"] | {"max_num_seqs": 4}})
    forward = [p.metrics for p in predict_all(read_folder(folder_of(tmp_path, *changes)))]
    backward = [p.metrics for p in predict_all(read_folder(folder_of(tmp_path, *changes[::-1])))]
    assert forward == backward[::-1]


def test_scores_are_beside_those_of_peers(tmp_path):
    """A peer's errors stand beside ours over the same runs and metrics."""
    predictions = predict_all([one(tmp_path)])
    theirs, ours = beside_peers(predictions)
    assert theirs["ttft_mean_s"] == pytest.approx(0.5)
    assert theirs["itl_mean_s"] is None
    assert ours["ttft_mean_s"] == pytest.approx(mean_errors(predictions)["ttft_mean_s"])


def test_a_folder_without_experiments_is_an_error(tmp_path):
    """The message says what is looked for."""
    with pytest.raises(SpecError, match="holds no experiments"):
        read_folder(Path(tmp_path))


def test_metrics_of_measured_requests_are_those_of_the_file():
    """The percentiles that the README states are linear ones: of the measured requests they give its values."""
    folder = shared_data("serving")
    experiment = next(e for e in read_folder(folder) if e.name == "h100-llama-2-7b-tp1-roleplay-t162547")
    rows = np.genfromtxt(folder / experiment.workload["requests_file"], delimiter=",", names=True)
    assert np.quantile(rows["ttft_s"], 0.9) == pytest.approx(experiment.measured["ttft_p90_s"], abs=1e-6)
    assert np.mean(rows["tpot_s"]) == pytest.approx(experiment.measured["itl_mean_s"], abs=1e-6)
