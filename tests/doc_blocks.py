"""Blocks of documents, and what it means for each kind to be true.

A document's blocks are run in order in one empty folder. ``<!-- file: NAME -->`` above a block says that whoever follows the
document saves it under that name; later commands find it there.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import typer
from typer.testing import CliRunner, Result

from gpusim.cli import app
from gpusim.plan import load
from gpusim.spec.device import DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.engine_profile import EngineProfile
from gpusim.spec.model import LayersSpec
from gpusim.spec.names import extend, merge_problems
from gpusim.spec.topology import TopologySpec
from gpusim.spec.workload import WorkloadSpec
from gpusim.spec.yaml_files import parse_document
from helpers import REPOSITORY

_BLOCK = re.compile(
    r"(?:^<!-- file: (?P<file>\S+) -->\n)?^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)
_INLINE = re.compile(r"`(gpusim [^`]+)`")
PROMPT = "$ gpusim "
SPECS = {
    "arrivals": WorkloadSpec,
    "merge": WorkloadSpec,
    "trace": WorkloadSpec,
    "nodes": TopologySpec,
    "memory": DeviceSpec,
    "kernels": EngineProfile,
}
"""What a file is, by a key that only it has."""
NOT_RUN = {
    "def test_rtx_a6000_holds_llama_3_1_8b():": "a test to be written beside those of tests/spec, of a device that is not there",
}
"""First lines of the blocks that no test runs, and why."""

REPLAYED = {"regression-tests.md": "tests/regression/test_guide.py"}
"""Documents whose walk, files and output a test of their own holds to an example; their Python is run here."""


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, what it says, the name under which a reader saves it."""

    document: Path
    language: str
    text: str
    file: str | None

    @property
    def is_run(self) -> bool:
        """Whether it is run here."""
        if self.document.name in REPLAYED:
            return self.text.startswith("import gpusim")
        return self.first_line not in NOT_RUN

    @property
    def first_line(self) -> str:
        """What `NOT_RUN` knows it by."""
        return self.text.split("\n", 1)[0]


def blocks(document: Path) -> list[Block]:
    """Return the fenced blocks of a document, in order."""
    text = document.read_text(encoding="utf-8")
    return [Block(document, m["language"], m["text"], m["file"]) for m in _BLOCK.finditer(text)]


def prove(block: Block, folder: Path, *, update: bool) -> None:
    """Run a block, or check that it is what gpusim accepts; with *update* write what its commands print into the document."""
    if block.file is not None:
        path = folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    elif block.language == "console":
        _run_session(block, folder, update=update)
    else:
        _CHECKS[block.language](block, folder)


def _run_session(block: Block, folder: Path, *, update: bool) -> None:
    for part in filter(None, re.split(r"^(?=\$ )", block.text, flags=re.MULTILINE)):
        command, _, shown = part.partition("\n")
        assert command.startswith(PROMPT), f"{command}: a console block holds commands of gpusim and what they print"
        printed = _printed_by(shlex.split(command.removeprefix(PROMPT)), folder)
        if update and shown:
            text = block.document.read_text(encoding="utf-8")
            block.document.write_text(text.replace(f"{command}\n{shown}", f"{command}\n{printed}"), encoding="utf-8")
        else:
            assert not shown or printed == shown, command


def _printed_by(arguments: list[str], folder: Path) -> str:
    """Run a command as a user would; return what it prints, without space at the ends of lines."""
    run = _run(arguments, folder)
    assert run.exit_code == 0, f"gpusim {' '.join(arguments)}\n{run.stdout}\n{run.stderr}"
    return "".join(line.rstrip() + "\n" for line in run.stdout.rstrip().splitlines())


def _run(arguments: list[str], folder: Path) -> Result:
    """Run a command in this process: most of the time of a short one is that of starting Python and importing."""
    with contextlib.chdir(folder):
        # Where no width is set; readline, which pytest loads, sets one.
        return CliRunner().invoke(app, arguments, prog_name="gpusim", env={"COLUMNS": None}, catch_exceptions=False)


def _run_python(block: Block, folder: Path) -> None:
    """Python runs as it stands, without a warning."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.text], check=False, cwd=folder, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def _check_yaml(block: Block, folder: Path) -> None:
    """YAML is a file that gpusim reads, or keys of a scenario or of a model's layers."""
    document = parse_document(block.text, block.document.name, folder)
    keys = document.data
    if "topology" in keys:
        (folder / "shown.yaml").write_text(block.text, encoding="utf-8")
        load(folder / "shown.yaml")
    elif "layers" in keys:
        assert [LayersSpec.model_validate(group) for group in keys["layers"]]
    elif found := [cls for key, cls in SPECS.items() if key in keys]:
        extend(document, "device" if found[0] is DeviceSpec else "workload")
        assert found[0] is not WorkloadSpec or not merge_problems(document)
        validate(found[0], document)
    else:
        load("chat", overrides=keys)


def _check_trace(block: Block, folder: Path) -> None:
    """Requests in a format that gpusim reads."""
    path = folder / f"shown.{block.language}"
    path.write_text(block.text, encoding="utf-8")
    shown = CliRunner().invoke(app, ["workload", "show", str(path)])
    assert shown.exit_code == 0, shown.output


def _check_shell(block: Block, folder: Path) -> None:
    """Commands for a terminal, with names of the reader's own: targets of make and commands of gpusim are there."""
    for line in re.sub(r"\\\n", " ", block.text).splitlines():
        words = line.split("#")[0].removeprefix(".venv/bin/")
        if words.startswith("make "):
            assert_make_target(words)
        elif words.startswith("gpusim "):
            assert_command(words)


def _check_text(block: Block, folder: Path) -> None:
    """Drawings, formulas, what is not for gpusim; or a command and the error that it ends with."""
    command, _, shown = block.text.partition("\n")
    if command.startswith(PROMPT):
        run = _run(shlex.split(command.removeprefix(PROMPT)), folder)
        assert run.exit_code != 0
        assert run.stderr.replace(f"{REPOSITORY}/", "") == shown


_CHECKS: dict[str, Callable[[Block, Path], None]] = {
    "python": _run_python,
    "yaml": _check_yaml,
    "csv": _check_trace,
    "json": _check_trace,
    "jsonl": _check_trace,
    "sh": _check_shell,
    "text": _check_text,
}
"""By language."""


def inline_commands(document: Path) -> list[str]:
    """Return the commands of gpusim that a document's prose names."""
    return _INLINE.findall(document.read_text(encoding="utf-8"))


def assert_command(line: str) -> None:
    """Check that a line's command of gpusim exists, with every option it is given."""
    command = typer.main.get_command(app)
    for word in line.split()[1:]:
        if word in getattr(command, "commands", {}):
            command = command.commands[word]
        elif word.startswith("--"):
            known = [option for parameter in command.params for option in parameter.opts]
            assert word.split("=")[0] in [*known, "--help"], f"{line}: no such option {word}"
        else:
            assert word.isupper() or not getattr(command, "commands", {}), f"{line}: no such command {word}"


def assert_make_target(line: str) -> None:
    """Check that the Makefile has the target."""
    target = line.split()[1]
    assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), line
