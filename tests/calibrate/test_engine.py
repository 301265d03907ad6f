"""The profile that runs were made with comes out of the fit; errors of runs left out are those of fits without them."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from gpusim.calibrate.engine import Simulated, felt, fit_engine, parameters_of, profile_text, with_parameters
from gpusim.calibrate.engine_model import LinearRuns, leave_out
from gpusim.cli import app
from gpusim.errors import SpecError
from gpusim.runs.layout import read_folder
from gpusim.runs.predictions import predict
from gpusim.spec.document import validate
from gpusim.spec.engine_profile import EngineProfile
from gpusim.spec.sampling import SamplingSpec
from gpusim.spec.yaml_files import read_document
from measured_runs import EXPERIMENT, MODEL

BASE = EngineProfile(name="base", request=4e-3, token=1.8e-3, overlapped_step=1e-6, overlapped_sequence=1e-9)
TRUE = EngineProfile(name="true", step=0.5e-3, sequence=8e-6, candidates=0.3e-3, request=6e-3, token=1.8e-3)
GREEDY = MODEL | {"num_layers": 20, "name": "somebody/greedy"}
"""Described by its figures, so nothing is known of its sampling, and no logits are sorted."""


def folder_of(path, profile):
    """Write runs of two models at two rates, measured by simulating them with *profile*."""
    (path / "experiments").mkdir()
    for number, (model, rate) in enumerate([(MODEL, 2), (MODEL, 100), (GREEDY, 2), (GREEDY, 150)]):
        workload = EXPERIMENT["workload"] | {"stages": [{"rate_rps": rate, "duration_s": 2}]}
        engine = EXPERIMENT["engine"] | {"max_num_seqs": 64}
        data = EXPERIMENT | {"experiment_id": f"r{number}", "model": model, "workload": workload, "engine": engine}
        file = path / "experiments" / f"{number}.json"
        file.write_text(json.dumps(data | {"measured": {}}))
        data["measured"] = predict(read_folder(path)[-1], engine=profile).metrics
        file.write_text(json.dumps(data))
    return path


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    """Fit runs made with `TRUE`, beginning with `BASE`."""
    simulated = Simulated({}, 1, lambda _: None)
    experiments = read_folder(folder_of(tmp_path_factory.mktemp("runs"), TRUE))
    return fit_engine(BASE, experiments, simulated, "test", per_sequence=True), simulated


def test_the_profile_put_in_comes_out(fit):
    """All parameters, from runs that tell them apart: few and many sequences, with logits sorted and without."""
    found, _ = fit
    assert parameters_of(found.profile) == pytest.approx(parameters_of(TRUE), rel=0.1, abs=2e-6)
    lent = {"token", "overlapped_step", "overlapped_sequence"}
    assert found.profile.model_dump(include=lent) == BASE.model_dump(include=lent)
    assert found.summary()["in_sample"]["e2e_mean_s"] < 0.005


def test_the_file_says_what_it_was_fitted_on(fit, tmp_path):
    """It reads back as the profile, to four digits, with the number of runs."""
    found, _ = fit
    path = tmp_path / "mine.yaml"
    path.write_text(profile_text(found.profile))
    profile = validate(EngineProfile, read_document(path))
    assert parameters_of(profile) == pytest.approx(parameters_of(found.profile), rel=1e-3)
    assert profile.source == "Fitted on 4 runs of test by gpusim calibrate --engine."


def test_a_run_is_not_simulated_twice_for_what_it_does_not_feel(fit):
    """Runs that sort no logits are alike whatever sorting costs: 4 runs at 5 profiles, but for 2 of them once."""
    _, simulated = fit
    assert simulated.count == 4 * 5 - 2


def test_a_penalty_is_felt_like_a_sort():
    """Qwen2.5 penalises what it said and searches candidates; both take many small kernels."""
    assert SamplingSpec(top_p=0.9, repetition_penalty=1.05).logit_passes == 2
    assert SamplingSpec(repetition_penalty=1.05).logit_passes == SamplingSpec(top_k=20).logit_passes == 1
    assert SamplingSpec().logit_passes == 0


def test_each_family_is_left_out(fit):
    """Ranges hold the values of all fits; a model alone in its family is predicted from the other."""
    found, _ = fit
    (by_family,) = found.left_out
    assert set(by_family.folds) == {"Llama-3.1-8B-Instruct", "greedy"}
    assert all(low <= found.values()[name] <= high for name, (low, high) in found.ranges().items())


def test_a_linear_model_is_fitted_exactly_despite_an_odd_run():
    """The least sum of absolute errors leaves one run in eight where it is."""
    rng = np.random.default_rng(1)
    slopes = rng.uniform(0.5, 2, (8, 3, 2))
    truth, base = np.array([0.3, 0.0]), rng.uniform(5, 9, (8, 3))
    measured = base + slopes @ truth
    measured[3] *= 1.1
    runs = LinearRuns(measured, base, slopes, np.zeros(2))
    assert runs.fit() == pytest.approx(truth, abs=1e-6)
    left = leave_out(runs, ["a"] * 3 + ["odd"] + ["b"] * 4, "family")
    assert left.folds["odd"]["itl_mean_s"] == pytest.approx(1 - 1 / 1.1, abs=1e-6)
    assert left.folds["a"]["itl_mean_s"] == pytest.approx(0, abs=1e-6)
    assert left.summary()["mean_of_runs"]["itl_mean_s"] == pytest.approx((1 - 1 / 1.1) / 8, abs=1e-6)


def test_what_no_run_feels_stays_as_it_was():
    """And what was not measured is not fitted."""
    measured = np.array([[1.0, np.nan, 2.0]])
    runs = LinearRuns(measured, measured * 0.5, np.array([[[1.0, 0.0]] * 3]), np.array([0.1, 0.7]))
    assert runs.fit()[1] == 0.7


def test_little_api_time_is_taken_from_the_token():
    """No time is below 0."""
    found = with_parameters(BASE, np.array([0, 0, 0, 1e-3]))
    assert (found.request, found.token) == (0, 1e-3)


def test_without_measurements_there_is_nothing_to_fit(tmp_path):
    """The folder is named as the reason would be: what to do about it."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "a.json").write_text(json.dumps(EXPERIMENT | {"measured": {}}))
    with pytest.raises(SpecError, match="no scored run"):
        fit_engine(BASE, read_folder(tmp_path), Simulated({}, 1, lambda _: None), "test")


def test_a_run_feels_sorting_where_its_model_samples(tmp_path):
    """Llama 3.1 is published with top_p 0.9."""
    experiments = read_folder(folder_of(tmp_path, BASE))
    assert [felt(TRUE, each).candidates > 0 for each in experiments] == [True, True, False, False]


def calibrate(*arguments):
    return CliRunner().invoke(app, ["calibrate", *map(str, arguments)])


def test_the_command_writes_a_profile(tmp_path):
    """It lists the runs it read, says its errors, and overwrites nothing."""
    folder, out = folder_of(tmp_path, BASE), tmp_path / "mine.yaml"
    arguments = ("--engine", "vllm", folder, "--out", out, "--source", "made up", "--processes", 1)
    result = calibrate(*arguments, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["runs"] == ["r0", "r1", "r2", "r3"]
    assert set(summary["left_out"]) == {"family"}
    profile = validate(EngineProfile, read_document(out))
    assert profile.request + profile.token == pytest.approx(5.8e-3, rel=0.05)
    assert profile.graph_sizes
    assert calibrate(*arguments).exit_code != 0
    table = calibrate(*arguments, "--force")
    assert "4 runs read: r0, r1, r2, r3" in table.stdout
    assert "each family left out: median of folds" in table.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--engine", "vllm", "h100-sxm", "DIR"),
        ("--engine", "vllm", "DIR", "--gpu", "x"),
        ("h100-sxm",),
        ("h100-sxm", "DIR", "--processes", 2),
    ],
)
def test_devices_and_engines_are_not_mixed(arguments):
    """The message says how to write either."""
    result = calibrate(*arguments)
    assert result.exit_code != 0
    assert "gpusim calibrate --engine PROFILE DIR" in result.stderr
