"""What the shell offers when the user presses TAB."""

import os
import subprocess
import sys
import time

import pytest

from gpusim.cli.completion import assignments
from gpusim.spec.folders import names
from gpusim.spec.keys import keys_below, values_of
from gpusim.spec.scenario import Scenario


def offered(line, folder=None):
    """Return what bash is offered for the last word of *line*."""
    words = line.split(" ")
    shell = {"_GPUSIM_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    command = [sys.executable, "-c", "from gpusim.cli import main; main()"]
    run = subprocess.run(command, env=os.environ | shell, cwd=folder, capture_output=True, text=True, check=False)
    assert not run.stderr
    return run.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("gpusim swe", ["sweep"]),
        ("gpusim workload ", ["show"]),
        ("gpusim run cha", ["chat"]),
        ("gpusim check schedul", ["schedulers"]),
        ("gpusim list mo", ["models"]),
        ("gpusim run chat --q", ["--quiet"]),
        ("gpusim workload show ch", ["chat"]),
        ("gpusim validate serving --engine v", ["vllm"]),
        ("gpusim calibrate rtx-pro-6000-w", ["rtx-pro-6000-workstation"]),
        ("gpusim runs from-bench x.json --gpu h200", ["h200-sxm"]),
        ("gpusim run chat --set ser", ["serving.", *keys_below("serving")]),
        ("gpusim run chat --set serving.max_num_s", ["serving.max_num_seqs="]),
        ("gpusim run chat --set serving.scheduler=vllm", ["serving.scheduler=vllm-v1", "serving.scheduler=vllm-v0"]),
        ("gpusim sweep chat --over topology=h200", ["topology=h200-sxm"]),
    ],
)
def test_names_keys_and_values_are_offered(line, expected, tmp_path):
    """Whatever has a name is offered where it may stand, and nothing else is."""
    assert sorted(offered(line, tmp_path)) == sorted(expected)


def test_files_and_runs_are_offered(tmp_path):
    """Scenarios by path, also in other folders."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "chat.yaml").touch()
    (tmp_path / "mine" / "notes.txt").touch()
    (tmp_path / "my.yaml").touch()
    assert offered("gpusim run m", tmp_path) == [*[n for n in names("example") if n[0] == "m"], "my.yaml", "mine/"]
    assert offered("gpusim run mine/", tmp_path) == ["mine/chat.yaml"]
    assert offered("gpusim run gone/", tmp_path) == []


def test_every_key_of_a_scenario_can_be_set():
    """Keys are those of the specs: a new one is offered without more ado."""
    top = {key.rstrip(".=") for key in keys_below("")}
    assert top == {field.alias or name for name, field in Scenario.model_fields.items()}
    assert "workload.arrivals.kind=" in keys_below("workload.arrivals")
    assert {"poisson", "stages"} <= set(values_of("workload.arrivals.kind"))
    assert values_of("seed") == []
    assert values_of("no.such.key") == []
    assert assignments("serving.engine=") == ["serving.engine=vllm"]


def test_completion_is_quick():
    """Names are offered without reading specs; a loose bound, for machines that are busy with other tests."""
    code = "import sys; from gpusim.cli import main\ntry:\n main()\nexcept SystemExit: pass\n"
    code += (
        "print([n for n in ('gpusim.spec.scenario', 'numpy', 'ruamel', 'rich') if n in sys.modules], file=sys.stderr)"
    )
    shell = {"_GPUSIM_COMPLETE": "complete_bash", "COMP_WORDS": "gpusim\nrun\nch", "COMP_CWORD": "2"}
    start_s = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | shell, capture_output=True, text=True, check=True
    )
    assert time.perf_counter() - start_s < 3.0
    assert (run.stdout.split(), run.stderr.strip()) == (["chat"], "[]")
