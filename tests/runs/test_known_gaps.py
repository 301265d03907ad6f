"""Known gaps of serving runs: each is on the page of accuracy, and every run that is predicted badly is known."""

import re

import pytest
from serving_gaps import NAMED_ABOVE, RUN_GAPS

from helpers import REPOSITORY

PAGE = REPOSITORY / "docs" / "serving-accuracy.md"
SIGNED = re.compile(r"[+-]\d+\.\d")


def errors():
    """Return the signed errors on the page as fractions, by run and title of the column; names keep their brackets."""
    found = {}
    columns = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| run |"):
            columns = cells[1:]
        elif line.startswith("| ") and "without them" not in columns:
            known = {
                title: float(cell) / 100
                for title, cell in zip(columns, cells[1:], strict=False)
                if SIGNED.fullmatch(cell)
            }
            found.setdefault(cells[0], {}).update(known)
        elif not line:
            columns = []
    return {run: row for run, row in found.items() if row}


def test_the_page_has_runs():
    """What the other tests read is there: runs that are scored and runs that are not."""
    runs = errors()
    assert len(runs) > 30
    assert any(run.startswith("(") for run in runs)


@pytest.mark.parametrize("gap", RUN_GAPS, ids=lambda gap: gap.name)
def test_a_known_gap_is_still_there(gap):
    """At least one of its runs is off by so much; where none is any more, the gap is closed and leaves the list."""
    assert gap.is_open(errors())


@pytest.mark.parametrize("gap", RUN_GAPS, ids=lambda gap: gap.name)
def test_every_part_of_a_name_names_a_run(gap):
    """A gap names no run that there is not."""
    assert all(any(part in run for run in errors()) for part in gap.runs)


def test_every_bad_run_is_a_known_gap():
    """No scored run whose time per output token is more than 5 % off is without an explanation."""
    bad = [
        run for run, row in errors().items() if not run.startswith("(") and abs(row.get("itl mean", 0)) > NAMED_ABOVE
    ]
    known = [gap for gap in RUN_GAPS if gap.metric == "itl mean"]
    assert [run for run in bad if not any(gap.covers(run) for gap in known)] == []
