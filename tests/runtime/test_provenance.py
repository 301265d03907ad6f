"""GPUs, and kernels, that nobody measured are named, with the error to expect."""

import re
from pathlib import Path

import pytest

from gpusim.runtime.provenance import KERNELS_LEFT_OUT, LEFT_OUT, NUM_RUNS, standing_in
from gpusim.spec.device import DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.model import ModelSpec
from gpusim.spec.names import read

DOCS = Path(__file__).parents[2] / "docs"


def device(name, **changes):
    """Return a device of the catalog."""
    return validate(DeviceSpec, read("device", name)).model_copy(update=changes)


def model(name):
    """Return a model of the catalog."""
    return validate(ModelSpec, read("model", name))


@pytest.mark.parametrize("name", ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "rtx-pro-6000-server"])
@pytest.mark.parametrize("served", ["llama-3.1-8b", "mixtral-8x7b"])
def test_measured_gpus_have_no_caution(name, served):
    """Their main kernels were fitted; a few borrowed numbers are no news on every run."""
    assert not standing_in(device(name), model(served), 2)


@pytest.mark.parametrize(("name", "donor"), [("l40s", "rtx-pro-6000-server"), ("h100-pcie", "h100-sxm"), ("a40", "rtx-pro-6000-server")])  # fmt: skip
def test_an_unmeasured_gpu_names_its_donor_and_the_error(name, donor):
    """One line: which device, whose laws, what to expect, where to read."""
    said = standing_in(device(name), model("llama-3.1-8b"), 1)
    assert said.startswith(f"{name}: no kernel of this GPU was measured, the laws of {donor} stand in; ")
    assert "off by TTFT 10.6 %, ITL 4.0 %, E2E 4.1 %" in said
    assert said.endswith("(docs/default-laws.md)")
    assert said.count("expect more") == (donor == "rtx-pro-6000-server")  # of GDDR, which one measured GPU has
    assert "\n" not in said


def test_other_vendors_were_never_measured():
    """The error measured on NVIDIA's GPUs says little of theirs."""
    assert "no GPU of AMD was ever measured: expect more" in standing_in(device("mi300x"), model("llama-3.1-8b"), 1)


def test_only_what_the_model_runs_is_missed():
    """Latent attention was not measured on RTX PRO 6000: only a model that has it is told so."""
    said = standing_in(device("rtx-pro-6000-server"), model("deepseek-v2-lite"), 1)
    assert "of this GPU no latent attention was measured, the laws of b200-sxm stand in" in said
    assert said.endswith("by: latent attention 15 to 26 % (docs/default-laws.md)")


@pytest.mark.parametrize(("num_ranks", "kernels"), [(1, "attention"), (2, "attention and no collectives")])
def test_a_device_that_was_measured_in_part(num_ranks, kernels):
    """`gpusim calibrate` on a table of products alone leaves the rest to the donor."""
    laws = device("h100-sxm").laws
    fits = {law: fit for law, fit in laws.fits.items() if ".gemm." in law}
    part = device("h100-sxm", laws=laws.model_copy(update={"fits": fits}))
    assert f"of this GPU no {kernels} w" in standing_in(part, model("llama-3.1-8b"), num_ranks)
    by_hand = device("h100-sxm", laws=laws.model_copy(update={"fits": {}}))
    assert not standing_in(by_hand, model("llama-3.1-8b"), num_ranks)


def test_the_errors_are_those_of_the_docs():
    """They are measured anew by `make accuracy`."""
    text = (DOCS / "serving-accuracy.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("| each GPU taken for unmeasured"))
    runs, ttft, _, _, itl, e2e, *_ = (float(cell) for cell in row.split("|")[2:-1])
    assert (runs, {"TTFT": ttft, "ITL": itl, "E2E": e2e}) == (NUM_RUNS, LEFT_OUT)
    deviations = (DOCS / "deviations.md").read_text(encoding="utf-8")
    written = {"attention": "decode attention", "latent attention": "latent decodes"}
    for kernels, error in KERNELS_LEFT_OUT.items():
        assert re.search(rf"{written.get(kernels, kernels)} {error.removesuffix(' %')}\b", deviations), kernels
