"""The page of `gpusim report` in a real Chromium."""

import os
import shutil
import subprocess

import pytest

from gpusim.open_run import open_run
from gpusim.report.run_figures import FIGURES
from gpusim.report.run_page import write_run_page

CHROMIUM = shutil.which("chromium")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Return the page of two runs."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    few = {"workload.num_requests": 20}
    runs = {"one": open_run("chat", few), "other": open_run("chat", few | {"serving.max_num_seqs": 8})}
    write_run_page(runs, path)
    return path


def chromium(profile, *arguments):
    """Return what Chromium prints; without it, skip, or fail where it is required."""
    if CHROMIUM is None:
        assert not os.environ.get("GPUSIM_REQUIRE_BROWSER"), "this machine must have Chromium"
        pytest.skip("chromium is not installed")
    command = [CHROMIUM, *FLAGS, *QUIET, f"--user-data-dir={profile}", "--enable-logging=stderr", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)


def test_all_figures_are_drawn_without_errors_or_requests(page, tmp_path):
    """Chromium loads the page, says nothing on the console, and finds each figure at both widths; it names no address."""
    run = chromium(tmp_path, "--dump-dom", page.as_uri())
    assert "CONSOLE" not in run.stderr
    assert run.stdout.count("<svg") == 2 * (2 + 2 * (len(FIGURES) - 2))
    text = page.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
    assert not [word for word in ("http:", "https:", "<script", "src=", "@import", "<link") if word in text]


@pytest.mark.parametrize("width", [1280, 500])
def test_page_can_be_photographed(page, tmp_path, width):
    """Both layouts render."""
    shot = tmp_path / "page.png"
    chromium(tmp_path / "profile", f"--window-size={width},2000", f"--screenshot={shot}", page.as_uri())
    assert shot.stat().st_size > 20_000
