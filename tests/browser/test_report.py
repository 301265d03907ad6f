"""The page of `gpusim report` in a real Chromium."""

import pytest

from chromium import DARK, LIGHT, measure
from gpusim.open_run import open_run
from gpusim.report.run_figures import COMMON, SINGLE
from gpusim.report.run_page import write_run_page
from gpusim.report.theme import DARK as DARK_COLOURS
from gpusim.report.theme import PAPER

FEW = {"workload.num_requests": 20}
PAGES = {
    "two": {
        "llama-3.1-8b-chat-on-a100-seats-128": ("chat", FEW),
        "llama-3.1-8b-chat-on-a100-seats-8": ("chat", FEW | {"serving.max_num_seqs": 8}),
    },
    "engines": {"two-engines": ("two-engines", FEW)},
    "preemptions": {"shortage": ("shortage", {})},
}


@pytest.fixture(scope="module", params=PAGES)
def page(request, tmp_path_factory):
    """Return a page and how many figures are seen on it."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    runs = {name: open_run(*source) for name, source in PAGES[request.param].items()}
    write_run_page(runs, path)
    return path, len(COMMON) + len(runs) * len(SINGLE)


def test_watching_sees_requests_and_errors(tmp_path):
    """A page that does ask for something and that fails is found out; so that silence elsewhere means something."""
    bad = tmp_path / "bad.html"
    bad.write_text('<!doctype html><img src="http://127.0.0.1:9/x.png"><script>console.error("no")</script>')
    seen, _ = measure(bad, tmp_path, 400, LIGHT)
    assert seen.requests == ["http://127.0.0.1:9/x.png"]
    assert len(seen.console) == 1


@pytest.mark.parametrize(("width", "scheme"), [(1280, LIGHT), (400, DARK)])
def test_page_is_drawn_in_silence(page, tmp_path, width, scheme):
    """One layout of each figure is seen whole, no table is wider than the screen; no error on the console, no request."""
    path, number = page
    seen, look = measure(path, tmp_path, width, scheme)
    assert not seen.console
    assert not seen.requests
    assert len(look["sizes"]) == number
    assert all(0.6 * width < wide <= width and high > 80 for wide, high in look["sizes"])
    assert min(look["marks"]) >= 5
    assert not look["cut"]
    assert not look["sideways"]
    assert look["width"] == width
    paper = PAPER if scheme == LIGHT else DARK_COLOURS[PAPER]
    assert look["background"] == f"rgb({', '.join(str(int(paper[at : at + 2], 16)) for at in (1, 3, 5))})"
