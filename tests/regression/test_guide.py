"""The guide to regression tests is true: its files are the example's, its commands print what it shows.

``pytest tests/regression/test_guide.py --update-golden`` refreshes the example's baseline and writes files and output as they
are now into the guide.
"""

import difflib
import json
import re
import shlex
import shutil

import pytest

from gpusim.regression import fixture  # noqa: F401 - once for the runs of the guide
from gpusim.spec.names import names
from helpers import REPOSITORY

GUIDE = REPOSITORY / "docs" / "regression-tests.md"
EXAMPLE = REPOSITORY / "examples" / "regression-tests"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PYTEST = "$ .venv/bin/pytest "
SHOWN_OF_DIFF = ("itl.p99", "ttft.p99", "max_num_batched_tokens")


@pytest.fixture
def at_a_desk(monkeypatch):
    """Run the pytest within as a reader does: it writes longer summaries where these variables say that it is in CI."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(pytester, at_a_desk):
    """Return an empty folder with the two files that the guide has its reader write."""
    for name in ("service.yaml", "test_latency.py"):
        shutil.copy(EXAMPLE / name, pytester.path)
    return pytester


def guide():
    """Return the text of the guide."""
    return GUIDE.read_text(encoding="utf-8")


def replayed(body, folder):
    """Return the text of a console block with what its commands print now."""
    lines = []
    for part in re.split(r"^(?=\$ )", body, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        lines.append(command)
        if command.startswith(PYTEST):
            run = folder.runpytest_inprocess("-p", "gpusim.pytest_plugin", *shlex.split(command.removeprefix(PYTEST)))
            lines += steady(run.outlines, shown)
        elif command.startswith("$ sed "):
            folder.run(*shlex.split(command.removeprefix("$ ")))
    return "".join(line.rstrip() + "\n" for line in lines)


def steady(lines, shown):
    """Return *lines* with the duration that *shown* has."""
    duration = re.search(r" in [\d.]+s$", shown, re.MULTILINE)
    return [re.sub(r" in [\d.]+s$", duration[0] if duration else " in 2.00s", line) for line in lines]


def test_example_keeps_to_its_baseline(pytester, at_a_desk, update_golden):
    """The example passes as it is in the repository, and its tree is the one shown."""
    shutil.copytree(EXAMPLE, pytester.path, dirs_exist_ok=True)
    update = ["--gpusim-update"] if update_golden else []
    pytester.runpytest_inprocess("-p", "gpusim.pytest_plugin", *update).assert_outcomes(passed=2)
    if update_golden:
        shutil.copytree(pytester.path / "baselines", EXAMPLE / "baselines", dirs_exist_ok=True)
    assert not [path for path in EXAMPLE.rglob("*.*") if path.is_file() and path.name not in guide()]


def changed(folder):
    """Return the lines of the baseline's diff that the guide shows, after its walk."""
    texts = [(path / "baselines" / "service.json").read_text(encoding="utf-8") for path in (EXAMPLE, folder.path)]
    lines = difflib.ndiff(*(text.splitlines(keepends=True) for text in texts))
    named = [line for line in lines if line[0] in "+-" and any(name in line for name in SHOWN_OF_DIFF)]
    return "".join(line[0] + line[2:] for line in named)


def test_commands_print_what_is_shown(folder, update_golden):
    """The walk from no baseline to an accepted change prints what the guide shows, to the digit, in six commands."""
    blocks = [(kind, body) for kind, body in BLOCK.findall(guide()) if kind in {"console", "diff"}]
    bodies = [body for kind, body in blocks if kind == "console"]
    assert sum(line.startswith("$ ") for body in bodies for line in body.splitlines()) == 6
    now = [replayed(body, folder) if kind == "console" else changed(folder) for kind, body in blocks]
    if update_golden:
        text = guide()
        for (kind, body), new in zip(blocks, now, strict=True):
            text = text.replace(f"```{kind}\n{body}```", f"```{kind}\n{new}```")
        GUIDE.write_text(text, encoding="utf-8")
    else:
        assert now == [body for _, body in blocks]


def test_files_are_those_of_the_example(update_golden):
    """Blocks that begin with the name of a file are that file."""
    shown = {
        body.partition("\n")[0].removeprefix("# "): (kind, body)
        for kind, body in BLOCK.findall(guide())
        if body.startswith("# ")
    }
    assert set(shown) == {"service.yaml", "test_latency.py", "requirements.txt", ".github/workflows/latency.yml"}
    for name, (kind, body) in shown.items():
        now = f"# {name}\n" + (EXAMPLE / name).read_text(encoding="utf-8")
        if update_golden:
            text = guide().replace(f"```{kind}\n{body}```", f"```{kind}\n{now}```")
            GUIDE.write_text(text, encoding="utf-8")
        else:
            assert body == now


def test_the_folder_is_no_example_of_a_scenario():
    """`gpusim list examples` names scenarios only."""
    assert "regression-tests" not in names("example")
    assert json.loads((EXAMPLE / "baselines" / "service.json").read_text(encoding="utf-8"))["schema"] == 1
