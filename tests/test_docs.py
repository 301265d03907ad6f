"""The documentation is true: its commands run and print what it shows, its links lead somewhere.

``pytest tests/test_docs.py --update-golden`` writes what the commands print now into the documents.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpusim.runtime.default_laws import donor_name
from gpusim.spec.device import DeviceSpec
from gpusim.spec.document import parse_document, validate
from helpers import REPOSITORY

DOCUMENTS = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md"))]
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PYTHON = re.compile(r"^```python\n(import gpusim.*?)^```$", re.DOTALL | re.MULTILINE)
YAML = re.compile(r"^```yaml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")
PROMPT = "$ gpusim "


def name_of(document):
    """Return a document's path from the root of the repository."""
    return str(document.relative_to(REPOSITORY))


def sessions(document):
    """Return the commands of a document's console blocks, each with the output shown below it."""
    found = []
    for block in CONSOLE.findall(document.read_text(encoding="utf-8")):
        for part in re.split(r"^(?=\$ )", block, flags=re.MULTILINE):
            command, _, shown = part.partition("\n")
            if command.startswith(PROMPT):
                found.append((command, shown))
    return found


def printed_by(command, folder):
    """Run a command as a user would, in an empty folder; return what it prints, without space at the ends of lines."""
    arguments = command.removeprefix(PROMPT).split()
    code = "import sys; from gpusim.cli import main; sys.argv[0] = 'gpusim'; main()"
    command_line = [sys.executable, "-c", code, *arguments]
    # Where no width is set; readline, which pytest loads, sets one for child processes.
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    run = subprocess.run(command_line, check=False, cwd=folder, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, f"{command}\n{run.stdout}\n{run.stderr}"
    return "".join(line.rstrip() + "\n" for line in run.stdout.rstrip().splitlines())


SESSIONS = [(document, *session) for document in DOCUMENTS for session in sessions(document)]


@pytest.mark.parametrize(("document", "command", "shown"), SESSIONS, ids=[f"{name_of(d)}: {c}" for d, c, _ in SESSIONS])
def test_commands_print_what_is_shown(document, command, shown, tmp_path, update_golden):
    """A `$ gpusim` command of a document succeeds; where output is shown it is the command's, to the digit."""
    printed = printed_by(command, tmp_path)
    if update_golden and shown:
        text = document.read_text(encoding="utf-8")
        document.write_text(text.replace(f"{command}\n{shown}", f"{command}\n{printed}"), encoding="utf-8")
    else:
        assert not shown or printed == shown


@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if PYTHON.search(d.read_text(encoding="utf-8"))], ids=name_of
)
def test_python_samples_run(document, tmp_path):
    """Every block of Python that begins by importing gpusim runs as it stands, without a warning."""
    for code in PYTHON.findall(document.read_text(encoding="utf-8")):
        subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=tmp_path, capture_output=True)


def test_readme_shows_the_example_as_it_is():
    """The scenario in the README is the file that its first line names."""
    shown = YAML.findall((REPOSITORY / "README.md").read_text(encoding="utf-8"))[0]
    first, _, rest = shown.partition("\n")
    assert rest == (REPOSITORY / first.removeprefix("# ")).read_text(encoding="utf-8")


def test_worked_change_is_a_device():
    """The device file that CONTRIBUTING.md writes is one that gpusim accepts and finds laws for."""
    text = YAML.findall((REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8"))[0]
    device = validate(DeviceSpec, parse_document(text, "CONTRIBUTING.md", REPOSITORY))
    assert donor_name(device) == "rtx-pro-6000-server"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document):
    """Every relative link names a file of the repository."""
    targets = {match[0] for match in LINK.findall(document.read_text(encoding="utf-8"))}
    missing = [t for t in targets if "://" not in t and not (document.parent / t).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_files_named_in_the_text_exist(document):
    """Every path of ours between backticks is there: prose does not outlive the code it speaks of."""
    named = re.findall(
        r"`((?:gpusim|tests|docs|examples|topologies|workloads|benchmarks)/[\w./-]+)`",
        document.read_text(encoding="utf-8"),
    )
    assert not [path for path in named if not (REPOSITORY / path).exists()]


def test_index_leads_to_every_page():
    """Whoever reads docs/index.md finds all other pages."""
    index = (REPOSITORY / "docs" / "index.md").read_text(encoding="utf-8")
    linked = {Path(match[0]).name for match in LINK.findall(index)}
    pages = {page.name for page in (REPOSITORY / "docs").rglob("*.md")} - {"index.md"}
    assert not pages - linked
