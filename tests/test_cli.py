"""The command line: what goes to stdout and stderr, and with which exit code."""

import json
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from builders import scenario_data
from gpusim.cli import app
from gpusim.spec.names import names
from gpusim.spec.yaml_files import dump_yaml, parse_document
from gpusim.version import __version__


def gpusim(*arguments, exit_code=0):
    """Run a command in this process; return what it wrote to stdout and to stderr."""
    run = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="gpusim")
    assert run.exit_code == exit_code, run.output
    return run.stdout, run.stderr


def process(*arguments, **options):
    """Start the command line as a process of its own."""
    command = [sys.executable, "-m", "gpusim", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.fixture
def scenario(tmp_path):
    """Write a small scenario; return its path."""
    path = tmp_path / "mine.yaml"
    path.write_text(dump_yaml(scenario_data()), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "command", [(), ("run",), ("sweep",), ("compare",), ("check",), ("list",), ("workload", "show")]
)
def test_help_says_what_each_command_does(command):
    """Every command explains itself; no line is cut or wider than a usual terminal."""
    out, err = gpusim(*command, "--help")
    assert out.startswith(" ".join(["Usage: gpusim", *command]))
    assert "..." not in out.splitlines()[2]
    assert max(map(len, out.splitlines())) <= 100
    assert not err


def test_version_and_module():
    """`gpusim --version` and `python -m gpusim --version` are one program."""
    assert gpusim("--version")[0] == f"gpusim {__version__}\n"
    assert process("--version").communicate()[0] == f"gpusim {__version__}\n"


@pytest.mark.parametrize("code", ["import gpusim", "import runpy; runpy.run_module('gpusim', run_name='__main__')"])
def test_start_up_loads_nothing_slow(code):
    """Importing the package, or asking for help, loads no package that takes long."""
    slow = ("numpy", "polars", "networkx", "simpy", "pydantic", "ruamel")
    script = f"import sys; sys.argv = ['gpusim', '--help']\ntry:\n {code}\nexcept SystemExit: pass\n"
    script += f"print([name for name in {slow} if name in sys.modules], file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stderr.strip() == "[]"


def test_polars_is_loaded_only_to_write_files(scenario):
    """A run that is only printed does without tables."""
    script = f"import sys\nfrom gpusim.cli import app\napp(['run', {str(scenario)!r}], standalone_mode=False)\n"
    script += "print('polars' in sys.modules, file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stderr.strip() == "False"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "chatt"), "error: 'chatt': unknown example; did you mean \"chat\"?"),
        (("run", "none.yaml"), "error: no such file: none.yaml"),
        (("run", "chat", "--set", "seed"), "error: 'seed': write KEY=VALUE, e.g. serving.max_num_seqs=64"),
        (
            ("run", "chat", "--set", "seed.x=1"),
            "set by --set: seed: expected a whole number, not a mapping",
        ),
        (
            ("run", "chat", "--set", "name.x=1"),
            "error: name.x: name is 'Chat service', without a key x",
        ),
        (("run", "chat", "--set", "model=tinny"), "set by --set: model: 'tinny': unknown model"),
        (("sweep", "chat"), "nothing to sweep; add sweep: {key: [values]} or use --over key=v1,v2"),
        (("check",), "error: say which scenario to check, or --schema"),
        (("runn",), "error: 'runn': unknown command; did you mean \"run\"?\n"),
        (("workload", "shwo"), "error: 'shwo': unknown command; did you mean \"show\"?\n"),
        (
            ("explain", "gone"),
            "error: gone: no saved run, which gpusim run SCENARIO --out gone writes, and no scenario: ",
        ),
        (("compare", "chat", "caht"), 'no scenario: unknown example; did you mean "chat"?'),
        (
            ("run", "chat", "--set", "serving.num_gpu_blocks_override=9"),
            "raise the limit or send shorter requests (gpusim check says how many KV blocks there are",
        ),
        (("run", "chat", "--set", "model=nothing-like-it"), "(or write a path); see gpusim list models\n"),
        (("runs", "from-bench", "gone.json", "--out", "o", "--gpu", "a"), "gone.json: cannot be read: No such file"),
        (("run", "chat", "--jsn"), 'error: --jsn: unknown option; did you mean "--json"?\n'),
        (("run",), "error: missing argument 'SCENARIO'; see gpusim run --help\n"),
        (("list", "modles"), "error: 'modles': unknown kind; did you mean \"models\"?\n"),
        (("list", "bogus"), "error: 'bogus': unknown kind; known: devices, models"),
    ],
)
def test_mistakes_end_with_2_and_one_message_on_stderr(arguments, message):
    """Nothing goes to stdout, and nobody sees a traceback."""
    out, err = gpusim(*arguments, exit_code=2)
    assert not out
    assert message in err
    assert "Traceback" not in err


def test_files_near_by_are_named(scenario, tmp_path):
    """A path that is almost right, and the directory of a run where a scenario is wanted."""
    assert "no such file: " in (err := gpusim("run", tmp_path / "mime.yaml", exit_code=2)[1])
    assert err.endswith('; did you mean "mine.yaml"?\n')
    gpusim("run", scenario, "--out", tmp_path / "results")
    _, err = gpusim("run", tmp_path / "results", exit_code=2)
    assert err.endswith(f"this is a folder; name a file in it, such as {tmp_path / 'results' / 'scenario.yaml'}\n")
    assert gpusim("run", tmp_path / "results" / "scenario.yaml", "--json")[0]


def test_json_is_the_summary_that_is_saved(scenario, tmp_path):
    """`run --json` prints exactly what `--out` writes to summary.json; tables and notes stay away."""
    out, err = gpusim("run", scenario, "--json", "--out", tmp_path / "results")
    assert json.loads(out) == json.loads((tmp_path / "results" / "summary.json").read_text(encoding="utf-8"))
    assert not err


def test_tables_go_to_stdout_and_notes_to_stderr(scenario):
    """The first screen has the latencies; that a sweep is not run is only a note."""
    out, err = gpusim("run", scenario, "--set", "sweep={seed: [1, 2]}")
    assert "TTFT" in out
    assert "\x1b" not in out
    assert err == "note: sweep: is for `gpusim sweep`; running the scenario without it\n"


def test_a_resolved_scenario_runs_again_to_the_same_bytes(scenario, tmp_path):
    """`check --resolved` fills in every default and name, and changes nothing but that."""
    resolved, _ = gpusim("check", scenario, "--resolved", "--set", "serving.tensor_parallel_size=1")
    assert resolved.startswith("schema: 1\nname:")
    again = tmp_path / "resolved.yaml"
    again.write_text(resolved, encoding="utf-8")
    assert gpusim("check", again, "--resolved")[0] == resolved
    assert gpusim("run", again, "--json")[0] == gpusim("run", scenario, "--json")[0]


@pytest.mark.parametrize("name", names("example"))
def test_examples_are_good(name):
    """Every example is checked to its last sweep point, and its resolved form as well."""
    assert gpusim("check", name)[0].startswith(f"{name}: good\n")
    resolved = parse_document(gpusim("check", name, "--resolved")[0], name, None)
    assert {"schema", "topology", "workload", "seed", "detail"} <= resolved.data.keys()


def test_a_directory_with_other_files_is_refused_before_the_run(scenario, tmp_path):
    """Nobody waits for a run whose results cannot be written; and nothing there is touched."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    out, err = gpusim("run", scenario, "--out", tmp_path / "mine", exit_code=2)
    assert not out
    assert "holds thesis.txt, which is not part of a run; choose another directory" in err
    assert [entry.name for entry in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_failed_run_leaves_earlier_results_alone(scenario, tmp_path):
    """Results of the run before stay whole when the next one fails."""
    gpusim("run", scenario, "--out", tmp_path / "results")
    before = (tmp_path / "results" / "summary.json").read_bytes()
    too_late = ("--set", "workload.arrivals.rate=1e-12 /s")
    _, err = gpusim("run", scenario, "--out", tmp_path / "results", *too_late, exit_code=2)
    assert "longer than a simulation can last" in err
    assert (tmp_path / "results" / "summary.json").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_what_cannot_be_saved_is_printed_all_the_same(scenario, tmp_path, monkeypatch):
    """A full disk at the end of a run costs the files, not the figures."""

    def full(*_args, **_known):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("polars.LazyFrame.sink_parquet", full)
    out, err = gpusim("run", scenario, "--out", tmp_path / "results", exit_code=2)
    assert "TTFT" in out
    assert "cannot write the results: No space left on device" in err


def test_sweep_prints_a_row_for_each_point(scenario):
    """`--over` takes commas or a YAML list, is crossed, and `--json` gives SI data in the same order."""
    over = ("--over", "attention=mha,mqa", "--over", "seed=[1, 2]")
    rows = json.loads(gpusim("sweep", scenario, *over, "--json")[0])
    assert [(row["attention"], row["seed"]) for row in rows] == [("mha", 1), ("mha", 2), ("mqa", 1), ("mqa", 2)]
    assert all(row["finished"] == 10 and row["itl_s"]["mean"] > 0 for row in rows)
    assert "ITL" in gpusim("sweep", scenario, *over)[0]


def test_points_of_a_sweep_are_opened_like_runs(scenario, tmp_path):
    """What `--out` writes can be compared; the rows say where it is."""
    rows = json.loads(gpusim("sweep", scenario, "--over", "attention=mha,mqa", "--out", tmp_path / "o", "--json")[0])
    folders = [tmp_path / "o" / "attention-mha", tmp_path / "o" / "attention-mqa"]
    assert [row["folder"] for row in rows] == [str(folder) for folder in folders]
    out, _ = gpusim("compare", *folders, "--metric", "itl.mean", "--json")
    (run,) = json.loads(out)["runs"]
    assert [run["metrics"]["itl.mean"][side] for side in "ab"] == pytest.approx([row["itl_s"]["mean"] for row in rows])


def test_a_metric_of_a_sweep_is_checked_first(scenario, monkeypatch):
    """A name that is none ends with the one that was meant, before anything is simulated."""
    monkeypatch.setattr("gpusim.sweeps.Simulation", None)
    _, err = gpusim("sweep", scenario, "--over", "seed=1,2", "--metric", "atainment", exit_code=2)
    assert err == "error: 'atainment': unknown metric; did you mean \"attainment\"?\n"


def test_check_warns_of_what_a_run_would_warn_of(scenario):
    """Requests that are too long and contexts beyond the model's are known before, at points of a sweep too."""
    assert "warning" not in gpusim("check", scenario)[0]
    prompts = (
        "--set",
        "workload.prompt_tokens={kind: uniform, low: 10, high: 60}",
        "--set",
        "serving.max_model_len=50",
    )
    found = json.loads(gpusim("check", scenario, *prompts, "--json")[0])["warnings"]
    rejected = json.loads(gpusim("run", scenario, *prompts, "--json")[0])["requests"]["rejected"]
    assert 0 < rejected < 10
    assert found == [
        f"engine: {rejected} of 10 requests will be rejected: prompt and output are longer than max_model_len = 50"
    ]
    out, _ = gpusim("check", scenario, "--set", "sweep={serving.max_model_len: [2048, 4096, 8192]}")
    assert "  sweep: 3 points\n  warning: engine: max_model_len = 4096 is beyond the 2048 tokens" in out
    assert out.count("warning") == 2


def test_a_run_says_that_requests_pile_up(scenario):
    """The terminal and the JSON have the same sentence; the same load slowly has none."""
    fast = ["workload.arrivals.rate=1e4 /s", "workload.num_requests=60", "serving.max_num_seqs=1"]
    fast = [word for change in fast for word in ("--set", change)]
    (warning,) = json.loads(gpusim("run", scenario, *fast, "--json")[0])["warnings"]
    assert warning.startswith("engine: requests pile up: in the second half of the arrivals ")
    assert f"warning: {warning}" in " ".join(gpusim("run", scenario, *fast)[0].split())
    assert not json.loads(gpusim("run", scenario, "--json")[0])["warnings"]


def test_a_failed_point_does_not_cost_the_others(scenario):
    """The table has the points that ran; the one that failed is named, and the exit code says so."""
    out, err = gpusim("sweep", scenario, "--over", "workload.arrivals.rate=2000 /s,1e-12 /s", exit_code=2)
    assert "2000 /s" in out
    assert err.startswith("error: at workload.arrivals.rate = 1e-12 /s: 1e+12 s is longer than")


@pytest.mark.parametrize("what", ["devices", "models", "topologies", "workloads", "examples"])
def test_list_names_everything(what):
    """Tables and JSON name all that the catalog holds."""
    out, _ = gpusim("list", what)
    listed = json.loads(gpusim("list", what, "--json")[0])
    kind = {"topologies": "topology"}.get(what, what.removesuffix("s"))
    assert [entry["name"] for entry in listed] == names(kind)
    assert all(entry["name"] in out for entry in listed)


def test_schema_is_one_json_document():
    """`check --schema` needs no scenario."""
    assert json.loads(gpusim("check", "--schema")[0])["properties"]["topology"]


def test_a_closed_pipe_is_no_error():
    """`gpusim check --schema | head -1` ends without a traceback."""
    running = process("check", "--schema")
    assert running.stdout.readline() == "{\n"
    running.stdout.close()
    assert not running.stderr.read()
    running.stderr.close()
    running.wait()


@pytest.fixture
def interrupt():
    """Return what does as Ctrl-C does, also where this process was started with it ignored."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda *_args: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, usual)


def test_ctrl_c_prints_what_was_finished(scenario, monkeypatch, interrupt):
    """An interrupted run ends with the requests so far, a note, and 130."""
    monkeypatch.setattr("gpusim.progress.Progress.update", lambda _, done: interrupt() if done == 5 else None)
    out, err = gpusim("run", scenario, "--set", "workload.num_requests=2000", "--json", exit_code=130)
    summary = json.loads(out)
    assert not summary["complete"]
    assert summary["requests"]["finished"] == 5
    assert err == "note: interrupted: these are the requests that had finished\n"


def test_ctrl_c_in_a_sweep_keeps_the_points(scenario, monkeypatch, interrupt):
    """Points that are done are printed; the others are not."""
    monkeypatch.setattr("gpusim.progress.Progress.update_of", lambda _, done, __: interrupt() if done == 1 else None)
    out, err = gpusim("sweep", scenario, "--over", "seed=1,2,3", "--json", exit_code=130)
    assert [row["seed"] for row in json.loads(out)] == [1]
    assert err == "note: interrupted; points that had finished: 1\n"


def test_ctrl_c_in_explain_keeps_what_is_known(scenario, monkeypatch, interrupt):
    """Where the time went needs no further run, and changes that were simulated stay, whichever were not."""
    monkeypatch.setattr("gpusim.progress.Progress.update_of", lambda _, done, __: interrupt() if done == 3 else None)
    out, err = gpusim("explain", scenario, "--processes", "1", "--json", exit_code=130)
    told = json.loads(out)
    assert (told["complete"], len(told["sensitivities"]), told["without"]) == (False, 2, [])
    assert sum(told["seconds"].values()) > 0
    assert err == "note: interrupted; changes that had been simulated: 2\n"


@pytest.mark.parametrize(
    "command", [("compare", "--with", "seed=5"), ("report", "-o", "page.html"), ("explain",), ("trace",)]
)
def test_ctrl_c_in_what_a_command_needs_ends_it(scenario, tmp_path, monkeypatch, interrupt, command):
    """A part of a run is no answer: no table, no page, and a gate of CI does not open."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gpusim.progress.Progress.update", lambda _, done: interrupt() if done == 5 else None)
    more = ("--set", "workload.num_requests=2000")
    out, err = gpusim(command[0], scenario, *command[1:], *more, exit_code=130)
    assert (out, err) == ("", "note: interrupted\n")
    assert {path.name for path in tmp_path.iterdir()} == {scenario.name}


def test_an_interrupted_run_says_so_wherever_it_is_shown(scenario, tmp_path, monkeypatch, interrupt):
    """In comparisons and on pages, beside its other warnings."""
    with monkeypatch.context() as patched:
        patched.setattr("gpusim.progress.Progress.update", lambda _, done: interrupt() if done == 5 else None)
        more = ("--set", "workload.num_requests=2000")
        gpusim("run", scenario, *more, "--out", tmp_path / "part", exit_code=130)
    data = json.loads(gpusim("compare", tmp_path / "part", scenario, "--json")[0])
    assert data["baseline_warnings"][0].startswith("this run was interrupted")
    gpusim("report", tmp_path / "part", "-o", tmp_path / "page.html")
    assert "Warning: this run was interrupted" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_ctrl_c_anywhere_else_has_no_traceback(scenario, monkeypatch, interrupt):
    """Also before a run there is only a note."""
    monkeypatch.setattr("gpusim.plan.plan_document", interrupt)
    out, err = gpusim("run", scenario, exit_code=130)
    assert (out, err) == ("", "note: interrupted\n")


@pytest.fixture
def sessions(tmp_path):
    """Write a workload of sessions that is drawn, and a trace; return the paths of both."""
    workload = tmp_path / "sessions.yaml"
    workload.write_text(
        "arrivals: {kind: poisson, rate: 2 /s}\nprompt_tokens: {kind: fixed, value: 100}\n"
        "output_tokens: {kind: fixed, value: 20}\nsessions: {turns: {kind: fixed, value: 4}}\nnum_requests: 400\n"
    )
    trace = tmp_path / "trace.csv"
    trace.write_text("prompt_tokens,output_tokens\n100,20\n300,40\n")
    return workload, trace


def test_a_workload_is_shown_as_json(sessions):
    """Counts and lengths of a workload by path, of one by name, and of a trace that states lengths only."""
    found = json.loads(gpusim("workload", "show", sessions[0], "--json")[0])
    assert (found["requests"], found["sessions"], found["turns_mean"]) == (400, 100, 4.0)
    assert found["prompt_tokens"]["max"] == 460
    # Turns find 0, 112, 224 and 352 tokens of 100, 220, 340 and 460 in whole blocks.
    assert found["repeated_prompt_share"] == (112 + 224 + 352) / (100 + 220 + 340 + 460)
    assert json.loads(gpusim("workload", "show", "chat", "--json", "--seed", "1")[0])["requests"] == 1000
    found = json.loads(gpusim("workload", "show", sessions[1], "--json")[0])
    assert (found["requests"], found["rate_per_s"], found["output_tokens"]["total"]) == (2, None, 60)


def test_a_workload_is_shown_as_a_table(sessions):
    """Everything is said in words; a name that is none is an error with a way out."""
    out, err = gpusim("workload", "show", sessions[0])
    assert "400 requests in 100 sessions, 4.00 turns each, 4 at most" in " ".join(out.split())
    assert "repeated: at most 61.4 % of the prompt tokens" in out
    assert not err
    assert "arrivals: none stated" in gpusim("workload", "show", sessions[1])[0]
    assert 'did you mean "chat"?' in gpusim("workload", "show", "chatt", exit_code=2)[1]
    assert "no such file" in gpusim("workload", "show", "gone.csv", exit_code=2)[1]


def test_compare_says_what_changed(scenario, tmp_path):
    """A saved run and a scenario are compared; a limit that is broken ends with 1, after the table."""
    gpusim("run", scenario, "--out", tmp_path / "run")
    out, err = gpusim("compare", tmp_path / "run", scenario, "--fail-if", "itl.p99 > +5 %")
    assert "the scenarios are the same" in out
    assert out.rstrip().endswith("the same")
    assert not err
    out, err = gpusim("compare", scenario, "--with", "seed=5", "--fail-if", "itl.mean > 1 ns", exit_code=1)
    assert "only the seed differs: 0 → 5" in out
    assert "fails 'itl.mean > 1 ns'" in err
    gpusim("compare", scenario, "--with", "seed=5", "--fail-if", "itl.mean > 1 ns", "--surely")


def test_compare_says_what_served_each_run(scenario):
    """Model and GPUs beside each name; a GPU that nobody measured in one line behind the table."""
    change = ("--with", "topology=l40s", "--metric", "itl.mean")
    out, _ = gpusim("compare", scenario, *change)
    name = f"{scenario} with topology=l40s"
    plain = " ".join(out.split())
    assert "on 1 × a100-sxm-80gb) B:" in plain
    assert "on 1 × l40s) what differs:" in plain
    assert plain.count("warning:") == 1
    # A long path is cut where a line ends.
    assert f"warning: {name}: l40s: no kernel of this GPU was measured".replace(" ", "") in plain.replace(" ", "")
    data = json.loads(gpusim("compare", scenario, *change, "--json")[0])
    assert (data["baseline_warnings"], len(data["runs"][0]["warnings"])) == ([], 1)
    assert data["baseline_setup"].endswith("on 1 × a100-sxm-80gb")
    assert data["runs"][0]["setup"].endswith("on 1 × l40s")


def test_an_unmeasured_gpu_is_named(scenario):
    """By check and by run, on the screen and in JSON; a measured one is not."""
    unmeasured = ("--set", "topology=mi300x")
    for command in ("check", "run"):
        assert "warning: mi300x: no kernel of this GPU" in " ".join(gpusim(command, scenario, *unmeasured)[0].split())
        (warning,) = json.loads(gpusim(command, scenario, *unmeasured, "--json")[0])["warnings"]
        assert warning.startswith("mi300x: no kernel of this GPU was measured, the laws of h100-sxm stand in")
        assert json.loads(gpusim(command, scenario, "--json")[0])["warnings"] == []
    ideal = gpusim("run", scenario, *unmeasured, "--set", "efficiency=ideal")[0]
    assert "warning" not in ideal


def test_compare_as_json(scenario):
    """The JSON has each metric of each further run, and which limits were broken."""
    out, _ = gpusim("compare", scenario, scenario, "--json", "--fail-if", "e2e.mean > 0 ms", exit_code=1)
    data = json.loads(out)
    (run,) = data["runs"]
    assert run["metrics"]["itl.mean"]["change"] == 0
    assert run["differences"] == []
    assert data["failed"] == [{"name": str(scenario), "limit": "e2e.mean > 0 ms"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name a second run"),
        (("--with", "seed=1", "--fail-if", "itl.p99"), "write METRIC > LIMIT"),
        (("--with", "seed=1", "--fail-if", "goodput < 1 /s"), "goodput needs an slo"),
        (("--with", "seed=1", "--at-least", "1"), "write a per cent"),
        (("--with", "seed=1", "--metric", "itl"), "'itl': unknown metric; did you mean \"itl."),
    ],
)
def test_what_compare_cannot_do(scenario, options, message):
    """Mistakes end with 2 and one message, never with 1, which means that a limit was broken."""
    _, err = gpusim("compare", scenario, *options, exit_code=2)
    assert message in err
