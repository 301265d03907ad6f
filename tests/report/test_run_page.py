"""The page of runs: its tables, its verdicts, its figures as files."""

import sys
from html import unescape
from html.parser import HTMLParser

import pytest

from gpusim.errors import SpecError
from gpusim.open_run import open_run
from gpusim.report.labels import short
from gpusim.report.run_figures import COMMON, FIGURES, SINGLE, figure, plot, write_figures
from gpusim.report.run_page import summary_html, write_run_page
from gpusim.report.run_tables import summary_tables
from gpusim.report.run_verdicts import MOST_RUNS, compared, verdicts_html

FEW = {"workload.num_requests": 20}


class Tables(HTMLParser):
    """The tables of a page, each a list of rows by column."""

    def __init__(self, text):
        super().__init__()
        self.found, self._cells, self._is_cell = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, _attributes):
        """Begin a table, a row or a cell."""
        if tag == "table":
            self.found.append([])
        elif tag == "tr":
            self._cells = []
        elif tag in {"td", "th"}:
            self._is_cell = True
            self._cells.append("")

    def handle_endtag(self, tag):
        """End a row or a cell."""
        self._is_cell &= tag not in {"td", "th"}
        if tag == "tr":
            self.found[-1].append(self._cells)

    def handle_data(self, data):
        """Take the text of a cell."""
        if self._is_cell:
            self._cells[-1] += data

    def rows(self, place):
        """Return the rows of table *place* as mappings."""
        head, *body = self.found[place]
        return [dict(zip(head, cells, strict=True)) for cells in body]


@pytest.fixture(scope="module")
def chat():
    """Return a short run."""
    return open_run("chat", FEW)


@pytest.fixture(scope="module")
def tight():
    """Return the same run with targets that its p99 misses."""
    return open_run("chat", FEW | {"slo.ttft": "1 ms", "slo.itl": "1 ms"})


def test_each_run_says_what_served_it():
    """Model and GPU beside the name; a GPU that nobody measured is named."""
    text = summary_html(open_run("chat", {"workload.num_requests": 2, "topology": "mi300x"}))
    assert "Chat service: llama-3.1-8b on 1 × mi300x; gpusim " in text
    assert "Warning: mi300x: no kernel of this GPU was measured, the laws of h100-sxm stand in; " in text


def test_targets_are_met_or_missed(chat, tight):
    """Latencies with a target say it and whether their p99 meets it; others say nothing."""
    for result, verdict in ((chat, "met"), (tight, "missed")):
        rows = {row["metric"]: row for row in Tables("".join(summary_tables({"run": result.summary()}))).rows(0)}
        assert [rows[name]["p99 against it"] for name in ("TTFT", "TPOT", "ITL", "E2E", "queue")] == [verdict] * 2 + [
            ""
        ] * 3
    assert rows["TTFT"]["SLO"] == "≤ 1.00 ms"


def test_rates_are_those_of_the_summary(chat):
    """Throughput, goodput and the share within the SLO stand below the latencies."""
    summary = chat.summary()
    (row,) = Tables("".join(summary_tables({"run": summary}))).rows(1)
    assert float(row["output tokens/s"]) == pytest.approx(summary["throughput"]["output_tokens_per_s"], rel=0.01)
    assert float(row["goodput/s"]) == pytest.approx(summary["goodput_per_s"], rel=0.01)
    assert row["requests within the SLO"] == "100 %"


def test_engines_have_rows():
    """Each engine of several has a row, and their tokens add up."""
    summary = open_run("two-engines").summary()
    tables = Tables("".join(summary_tables({"run": summary})))
    rows = tables.rows(2)
    assert [row["engine"] for row in rows] == list(summary["engines"])
    assert sum(int(row["requests"]) for row in rows) == summary["requests"]["finished"]
    assert "goodput/s" not in rows[0]


def test_preemptions_are_told():
    """A run out of KV blocks says so in its first line."""
    assert "1 preempted, 57 times in all" in summary_html(open_run("shortage"))


def test_first_run_is_the_baseline(chat):
    """Runs stand side by side in one unit with a change and a verdict for each but the first; of few requests, of these."""
    slow = open_run("chat", FEW | {"serving.max_num_seqs": 1})
    runs = {"<base>": chat, "slow": slow, "same": chat}
    text = "".join(verdicts_html(compared(runs), short(list(runs))))
    rows = {row["metric"]: row for row in Tables(text).rows(0)}
    assert "<h2>Against &lt;base&gt;</h2>" in text
    assert rows["mean TTFT"]["verdict of slow"] == "worse here"
    change = slow.ttft.mean / chat.ttft.mean - 1
    assert float(rows["mean TTFT"]["change of slow"].split()[0]) == pytest.approx(100 * change, rel=1e-3)
    assert rows["mean TTFT"]["<base>"] == rows["mean TTFT"]["same"]
    assert "serving.max_num_seqs: 128 → 1;" in unescape(text)


def test_too_many_runs_are_one_error(chat, tmp_path):
    """More runs than colours that are told apart are refused."""
    runs = {f"run {number}": chat for number in range(MOST_RUNS + 1)}
    with pytest.raises(SpecError, match="7 runs are too many for one page, which shows 6"):
        write_run_page(runs, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("suffix", "magic", "names"), [("svg", b"<svg", ["a", "rate=5 /s"]), ("png", b"\x89PNG", ["a"])]
)
def test_figures_are_files(chat, tmp_path, suffix, magic, names):
    """Each figure is a file: those of several runs once, the others for each."""
    written = write_figures(dict.fromkeys(names, chat), tmp_path, suffix)
    assert len(written) == len(COMMON) + len(names) * len(SINGLE)
    assert sorted(tmp_path.iterdir()) == sorted(written)
    assert all(path.read_bytes().startswith(magic) for path in written)


def test_notebooks_show_the_same_figures(chat):
    """`Result.plot` gives what a page has of the run, and says which figures there are."""
    for name in FIGURES:
        drawn = figure(name, {chat.summary()["name"]: chat}, 720).to_dict()
        assert plot(chat, name).to_dict() == drawn
    with pytest.raises(SpecError, match="there is no figure 'pie'; choose from percentiles"):
        plot(chat, "pie")
    with pytest.raises(SpecError, match="of one run, not of 2"):
        figure("topology", {"a": chat, "b": chat})


def test_without_the_extra_one_is_told_how_to_get_it(chat, tmp_path, monkeypatch):
    """Without Altair there is one error that names the command; nothing is written."""
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(SpecError, match="pip install altair vl-convert-python"):
        write_run_page({"run": chat}, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
