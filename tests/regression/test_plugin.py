"""The plugin in projects of its own: baselines made, kept, failing, accepted; also under xdist."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

import gpusim
from gpusim.regression import fixture

TINY = {"model": "tiny", "serving.max_model_len": 2048, "workload.num_requests": 8, "workload.arrivals.rate": "500 /s"}
LATENCY = """
    def test_latency(gpusim):
        result = gpusim.simulate("chat", overrides=%r)
        gpusim.assert_latency(result, %r)
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """Return an empty project whose pytest has the plugin, and no others that take time."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return Project(pytester)


class Project:
    """A folder with tests of latency."""

    def __init__(self, pytester):
        self.pytester = pytester
        self.path = pytester.path

    def write(self, name="test_chat", file="chat.json", **changes):
        """Write a test of a small run against a baseline."""
        self.pytester.makepyfile(**{name: LATENCY % (TINY | changes, file)})

    def run(self, *arguments):
        """Run pytest there, in this process."""
        return self.pytester.runpytest_inprocess("-p", "gpusim.pytest_plugin", *arguments)

    def run_apart(self, *arguments):
        """Run pytest there, on two workers of xdist."""
        plugins = "-p", "gpusim.pytest_plugin", "-p", "xdist.plugin"
        return self.pytester.runpytest_subprocess(*plugins, "-n", "2", *arguments)


def test_a_missing_baseline_fails_and_says_how_to_make_it(project):
    """Nothing is written before somebody asks for it."""
    project.write()
    run = project.run()
    run.assert_outcomes(failed=1)
    run.stdout.fnmatch_lines(["*there is no baseline chat.json*", "*pytest --gpusim-update test_chat.py::test_latency"])
    assert not (project.path / "chat.json").exists()


def test_make_keep_move_accept(project):
    """A baseline is made, kept to, missed after a change, and accepted by the command that the failure names."""
    project.write()
    run = project.run("--gpusim-update", "test_chat.py::test_latency")
    run.assert_outcomes(passed=1)
    run.stdout.fnmatch_lines(["*gpusim baselines*", "new        chat.json"])
    before = (project.path / "chat.json").read_bytes()
    project.run().assert_outcomes(passed=1)
    again = project.run("--gpusim-update")
    again.stdout.fnmatch_lines(["unchanged  chat.json"])

    project.write(**{"serving.max_num_seqs": 1})
    run = project.run()
    run.assert_outcomes(failed=1)
    run.stdout.fnmatch_lines(
        [
            ">*gpusim.assert_latency(result, 'chat.json')",
            "E*metrics moved from the baseline chat.json*",
            "E*metric*baseline*now*change*allowed*",
            "E*ttft.p99*+*%*±2 %*worse",
            "E*a first token, queue to blame:",
            "E*serving.max_num_seqs: 128 -> 1",
            "E*accept it and review*",
            "E*pytest --gpusim-update test_chat.py::test_latency",
        ]
    )
    run.stdout.no_fnmatch_line("*fixture.py*")
    assert (project.path / "chat.json").read_bytes() == before

    project.run("--gpusim-update", "test_chat.py::test_latency").stdout.fnmatch_lines(["changed    chat.json"])
    project.run().assert_outcomes(passed=1)
    assert json.loads((project.path / "chat.json").read_text(encoding="utf-8"))["scenario"]["serving.max_num_seqs"] == 1


def test_better_than_the_baseline_fails_too(project):
    """Otherwise the next change could eat up what was won, unseen."""
    project.write(**{"serving.max_num_seqs": 1})
    project.run("--gpusim-update")
    project.write()
    run = project.run()
    run.assert_outcomes(failed=1)
    run.stdout.fnmatch_lines(["E*ttft.mean*better than the baseline"])


def test_limits_are_shown_with_units(project):
    """A failing limit shows both sides with units; a wrong unit is an error that names the right ones."""
    project.pytester.makepyfile(
        test_limits=f"""
        import pytest

        @pytest.fixture
        def result(gpusim):
            return gpusim.simulate("chat", overrides={TINY!r})

        def test_kept(result):
            assert "1 ns" < result.itl.p99 <= "50 ms"

        def test_missed(result):
            assert result.e2e.max < "10 us"

        def test_wrong_unit(result):
            assert result.itl.p99 < "50 GB"
        """
    )
    run = project.run()
    run.assert_outcomes(passed=1, failed=2)
    run.stdout.fnmatch_lines(["E*assert *ms < '10 us'", "E*SpecError*'GB' is not a unit of seconds; use one of s, ms*"])


def test_paths_are_those_of_the_test(project):
    """Scenarios and baselines lie beside the test, wherever pytest was started; the command works from there."""
    folder = project.path / "tests" / "latency"
    folder.mkdir(parents=True)
    scenario = gpusim.load("chat", overrides=TINY).model_dump_json(exclude_none=True)
    (folder / "own.yaml").write_text(scenario, encoding="utf-8")
    (folder / "test_own.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('seed', [0, 1])\n"
        "def test_own(gpusim, seed):\n"
        "    scenario = gpusim.load('own.yaml', overrides={'seed': seed})\n"
        "    gpusim.assert_latency(gpusim.simulate(scenario), f'baselines/{seed}.json', rtol=0.01, atol='10 us')\n",
        encoding="utf-8",
    )
    run = project.run()
    command = "pytest --gpusim-update 'tests/latency/test_own.py::test_own[[]1[]]'"
    run.stdout.fnmatch_lines(["E*there is no baseline tests/latency/baselines/0.json*", f"E*{command}"])
    run = project.run("--gpusim-update", "tests/latency/test_own.py::test_own[1]")
    run.stdout.fnmatch_lines(["new        tests/latency/baselines/1.json"])
    assert not (folder / "baselines" / "0.json").exists()


def test_a_broken_baseline_fails_with_the_way_out(project):
    """The message names the file and the command, without a traceback of ours."""
    project.write()
    (project.path / "chat.json").write_text("{}", encoding="utf-8")
    run = project.run()
    run.stdout.fnmatch_lines(["E*chat.json: not a baseline*", "E*pytest --gpusim-update test_chat.py::test_latency"])
    run.stdout.no_fnmatch_line("*baseline.py*")


def test_half_a_run_is_no_baseline(tmp_path):
    """A run that was stopped early is neither compared nor written."""
    whole = gpusim.simulate(gpusim.load("chat", overrides=TINY))
    half = replace(whole, record=replace(whole.record, complete=False))
    tested = fixture.GpusimFixture(tmp_path, "pytest", update=True)
    with pytest.raises(AssertionError, match="stopped before its end"):
        tested.assert_latency(half, "chat.json")
    assert not list(tmp_path.iterdir())


def test_two_tests_may_not_write_one_file_differently(project):
    """The last one would win and the other fail from then on, so the session that writes fails."""
    project.write("test_one")
    project.write("test_two", **{"serving.max_num_seqs": 1})
    run = project.run("--gpusim-update")
    assert run.ret == pytest.ExitCode.TESTS_FAILED
    run.stdout.fnmatch_lines(
        ["error: chat.json was written by test_one.py::test_latency and test_two.py::test_latency,*"]
    )
    project.write("test_two")
    assert project.run("--gpusim-update").ret == pytest.ExitCode.OK


def test_under_xdist(project):
    """Workers write and compare as one process does; the main process names what was written and what is contested."""
    pytest.importorskip("xdist")
    project.write("test_one", "one.json")
    project.write("test_two", "shared.json")
    project.write("test_three", "shared.json", **{"serving.max_num_seqs": 1})
    run = project.run_apart("--gpusim-update")
    assert run.ret == pytest.ExitCode.TESTS_FAILED
    run.assert_outcomes(passed=3)
    # Whether the second to write shared.json finds it there already is for the workers to settle.
    run.stdout.fnmatch_lines(["new        one.json", "* shared.json"])
    run.stdout.fnmatch_lines(["error: shared.json was written by test_three.py::* and test_two.py::*"])
    run = project.run_apart()
    run.assert_outcomes(passed=2, failed=1)
    run.stdout.fnmatch_lines(["E*moved from the baseline shared.json*"])


def test_pytest_starts_without_the_simulator():
    """Tests that do not ask for the fixture do not pay for it."""
    slow = "numpy", "polars", "pydantic", "simpy", "networkx"
    code = f"import sys, gpusim.pytest_plugin; print([name for name in {slow} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
