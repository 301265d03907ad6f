"""What users install is whole: the wheel works in an environment and a folder that know nothing of the checkout."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from gpusim.spec.names import names
from helpers import REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel, without fetching anything."""
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, REPOSITORY)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel, tmp_path_factory):
    """Install the wheel into an environment of its own that borrows the dependencies of this one; return its bin."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # Plain paths: .pth files in those folders, such as that of an editable gpusim, are not read through this one.
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    return python.parent


@pytest.fixture(scope="module")
def folder(scripts, tmp_path_factory):
    """Run a named example from an empty folder; return the folder, with the results in `first`."""
    folder = tmp_path_factory.mktemp("empty")
    tiny = ["--set", "model=tiny", "--set", "serving.max_model_len=2048", "--set", "workload.num_requests=2"]
    call(scripts / "gpusim", "run", "chat", *tiny, "--out", "first", cwd=folder)
    return folder


def call(*command, cwd=None):
    """Run a command that must succeed, away from the checkout; return what it printed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_", "COV_"))}
    run = subprocess.run(
        [*map(str, command)],
        check=False,
        cwd=cwd,
        env={**clean, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, f"{' '.join(map(str, command))}\n{run.stdout}\n{run.stderr}"
    return run.stdout


def test_wheel_is_used_and_not_the_checkout(scripts, tmp_path):
    """Python finds the installed package."""
    where = call(scripts / "python", "-c", "import gpusim; print(gpusim.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(scripts.parent)


def test_all_names_are_shipped(scripts, tmp_path):
    """An installed gpusim knows every device, model, topology, workload and example of the checkout."""
    listed = json.loads(call(scripts / "gpusim", "list", "--json", cwd=tmp_path))
    kinds = {"devices": "device", "models": "model", "topologies": "topology", "workloads": "workload"}
    for plural, kind in {**kinds, "examples": "example"}.items():
        assert [entry["name"] for entry in listed[plural]] == names(kind)


def test_example_runs_from_an_empty_folder(folder):
    """A named example finds its topology, device, model and workload, and writes what it is asked to."""
    summary = json.loads((folder / "first" / "summary.json").read_text(encoding="utf-8"))
    assert summary["requests"]["submitted"] == 2


def test_a_run_is_repeated_from_its_own_scenario(scripts, folder):
    """The scenario that a run leaves behind runs again to the same bytes, though nothing in it is a name any more."""
    call(scripts / "gpusim", "run", "first/scenario.yaml", "--out", "second", cwd=folder)
    for name in ("summary.json", "requests.parquet", "steps.parquet", "scenario.yaml"):
        assert (folder / "first" / name).read_bytes() == (folder / "second" / name).read_bytes()


def test_pytest_finds_the_plugin(scripts, tmp_path):
    """Where gpusim is installed, pytest has its fixture and its option without being told."""
    (tmp_path / "test_chat.py").write_text("def test_chat(gpusim):\n    assert gpusim.load('chat').seed == 0\n")
    printed = call(scripts / "python", "-m", "pytest", "-q", "--gpusim-update", cwd=tmp_path)
    assert "1 passed" in printed
    assert "warning" not in printed


def test_license_is_shipped(wheel):
    """The wheel holds the license beside its metadata."""
    assert "LICENSE" in {path.name for path in contents(wheel)}


def test_nothing_else_is_shipped(wheel):
    """No file that an editor or a merge left, no test, no cache."""
    found = {path.suffix for path in contents(wheel)}
    assert found <= {".py", ".yaml", ".yml", ".json", ".typed", ".txt", ".md", ""}, found


def contents(wheel):
    """Return the paths within a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return [PurePosixPath(name) for name in archive.namelist()]
