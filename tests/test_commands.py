"""What holds of every command: it explains itself, has --json and --quiet, and ends with one line when something is wrong."""

import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from builders import scenario_data
from gpusim.cli import app
from gpusim.spec.yaml_files import dump_yaml


def walk(command, path=()):
    """Yield the path and the click command of each command under *command*."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, child in command.commands.items():
        yield from walk(child, (*path, name))


COMMANDS = dict(walk(typer.main.get_command(app)))
EACH = pytest.mark.parametrize("path", COMMANDS, ids=" ".join)


def invoke(*arguments):
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="gpusim")


def assert_one_error(run):
    """See that *run* printed nothing but one error, and exited with 2."""
    assert run.exit_code == 2, run.output
    assert not run.stdout
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("error:") == 1
    assert "Traceback" not in run.stderr


@EACH
def test_it_explains_itself(path):
    """Each command has help in words, and the same options for JSON and silence."""
    out = invoke(*path, "--help").stdout
    assert COMMANDS[path].help
    assert all(each.help for each in COMMANDS[path].params if each.name != "help")
    assert "  --json  " in out
    assert "  -q, --quiet  " in out


@EACH
def test_what_is_not_there_is_one_error(path, tmp_path, monkeypatch):
    """Every argument names something that does not exist."""
    monkeypatch.chdir(tmp_path)
    arguments = [*path]
    for each in COMMANDS[path].params:
        if each.param_type_name == "argument":
            arguments.append("no-such.yaml")
        elif each.required:
            arguments += [each.opts[0], "no-such"]
    assert_one_error(invoke(*arguments))
    assert not list(tmp_path.iterdir())


@EACH
def test_an_unknown_option_is_one_error(path):
    """It names the option that was meant."""
    run = invoke(*path, "--jsno")
    assert_one_error(run)
    assert run.stderr == 'error: --jsno: unknown option; did you mean "--json"?\n'


@pytest.mark.parametrize("path", [(), ("workload",), ("validate",), ("runs",)])
def test_without_a_command_there_is_help(path):
    """`gpusim` alone, and commands that only hold others, say which there are."""
    run = invoke(*path)
    assert run.exit_code == 0
    assert "Commands:" in run.stdout
    assert_one_error(invoke(*path, "--quiet"))


@pytest.fixture
def noisy(tmp_path):
    """Write a scenario on which `gpusim run` has something to note; return its path."""
    path = tmp_path / "noisy.yaml"
    path.write_text(dump_yaml(scenario_data() | {"sweep": {"seed": [1, 2]}}), encoding="utf-8")
    return path


def test_quiet_stands_before_or_behind_the_command(noisy):
    """Notes go, the data stay; nothing is remembered for the next command."""
    usual = invoke("run", noisy)
    assert usual.stderr.startswith("note: ")
    for arguments in (("--quiet", "run", noisy), ("run", noisy, "--quiet"), ("run", "-q", noisy)):
        run = invoke(*arguments)
        assert (run.stdout, run.stderr, run.exit_code) == (usual.stdout, "", 0)
    assert invoke("run", noisy).stderr == usual.stderr


def test_quiet_does_not_hide_errors(noisy):
    """Neither here nor in what is run next."""
    assert_one_error(invoke("run", noisy, "--set", "model=no-such", "--quiet"))
    assert_one_error(invoke("run", "--quiet"))
    assert invoke("run", noisy).stderr.startswith("note: ")


def process(*arguments, **environment):
    """Start gpusim as a program, with its output in pipes."""
    code = "from gpusim.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("arguments", [("list",), ("list", "--json"), ("check", "--schema")])
def test_nobody_has_to_read_to_the_end(arguments):
    """`gpusim list | true` ends without a word, as programs do that are killed by SIGPIPE."""
    running = process(*arguments)
    running.stdout.close()
    assert running.stderr.read() == b""
    running.stderr.close()
    assert running.wait() == 141


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_any_locale_will_do(noisy, environment):
    """Where a stream cannot hold a sign there is a question mark, in JSON an escape, never a traceback."""
    noisy.write_text(dump_yaml(scenario_data() | {"name": "≤", "sweep": {"seed": [1]}}), encoding="utf-8")
    for options in ((), ("--json",)):
        out, err = process("run", noisy, *options, **environment).communicate()
        assert out.decode("ascii")
        assert err.startswith(b"note: sweep")
    assert b'"\\u2264' in out
    assert (
        process("run", "≤.yaml", PYTHONIOENCODING="latin-1").communicate()[1].startswith(b"error: no such file: ?.yaml")
    )


def test_piped_tables_are_plain_and_whole(noisy):
    """No colours, however the environment asks for them; as wide as COLUMNS says, or 120, and never short of a digit."""
    usual = process("list", "models").communicate()[0]
    assert b"\x1b" not in process("list", "models", FORCE_COLOR="1", TTY_COMPATIBLE="1").communicate()[0]
    narrow = process("list", "models", COLUMNS="40").communicate()[0]
    assert narrow.count(b"llama-3.1-8b") % usual.count(b"llama-3.1-8b") == 0 < narrow.count(b"llama-3.1-8b")
    assert max(map(len, narrow.decode().splitlines())) <= 40
    assert "…" not in narrow.decode()
