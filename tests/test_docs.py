"""The documentation is true: its commands run and print what it shows, its files are read, its links lead somewhere.

``pytest tests/test_docs.py --update-golden`` writes what the commands print now into the documents.
"""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from doc_blocks import NOT_RUN, REPLAYED, assert_command, blocks, inline_commands, prove
from gpusim.runtime.default_laws import donor_name
from gpusim.spec.device import DeviceSpec
from gpusim.spec.document import validate
from gpusim.spec.yaml_files import parse_document
from helpers import REPOSITORY

DOCUMENTS = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md"))]
WITH_BLOCKS = [document for document in DOCUMENTS if blocks(document)]
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")


def name_of(document):
    """Return a document's path from the root of the repository."""
    return str(document.relative_to(REPOSITORY))


@pytest.mark.parametrize("document", WITH_BLOCKS, ids=name_of)
def test_every_block_is_true(document, tmp_path, update_golden):
    """Commands succeed and print what is shown, to the digit; Python runs; files and traces are read."""
    for block in blocks(document):
        if block.is_run:
            prove(block, tmp_path, update=update_golden)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_blocks_are_fenced(document):
    """No block is marked by its indentation, which says nothing of its language."""
    assert not [t for t in MarkdownIt().parse(document.read_text(encoding="utf-8")) if t.type == "code_block"]


def test_exceptions_are_needed():
    """The lists of exceptions name no block, no document and no test that is gone."""
    assert set(NOT_RUN) <= {block.first_line for document in WITH_BLOCKS for block in blocks(document)}
    assert set(REPLAYED) <= {document.name for document in WITH_BLOCKS}
    assert all((REPOSITORY / test).exists() for test in REPLAYED.values())


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_commands_named_in_the_text_exist(document):
    """Prose names no command and no option that is gone."""
    for line in inline_commands(document):
        assert_command(line)


def yaml_of(document):
    """Return the first YAML that a document shows."""
    return next(block.text for block in blocks(document) if block.language == "yaml")


def test_readme_shows_the_example_as_it_is():
    """The scenario in the README is the file that its first line names."""
    shown = yaml_of(REPOSITORY / "README.md")
    first, _, rest = shown.partition("\n")
    assert rest == (REPOSITORY / first.removeprefix("# ")).read_text(encoding="utf-8")


def test_worked_change_is_a_device():
    """The device file that CONTRIBUTING.md writes is one that gpusim accepts and finds laws for."""
    text = yaml_of(REPOSITORY / "CONTRIBUTING.md")
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
