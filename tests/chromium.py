"""Pages opened in a real Chromium."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import unescape

import pytest

CHROMIUM = shutil.which("chromium")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic")
# Nothing is looked up, not even for Chromium itself; what was asked for still stands in the log.
OFFLINE = ("--host-resolver-rules=MAP * ~NOTFOUND",)
DARK, LIGHT = 0, 1
# A window has at least 500 pixels; a frame in it can be as narrow as a telephone.
WRAPPER = """<!doctype html><meta charset="utf-8"><title></title><body style="margin:0">
<iframe width="{width}" height="2000" src="{name}" style="border:0" onload="
  const page = this.contentDocument;
  const shown = [...page.querySelectorAll('svg')].map(svg => [svg, svg.getBoundingClientRect()]).filter(([_, box]) => box.width);
  const texts = shown.flatMap(([svg]) => [...svg.querySelectorAll('text')]);
  const right = page.documentElement.clientWidth;
  const isCut = box => box.width && (box.left < 0 || box.right > right);
  document.title = JSON.stringify({{
    sizes: shown.map(([_, box]) => [box.width, box.height]),
    marks: shown.map(([svg]) => svg.querySelectorAll('path, line, text').length),
    cut: texts.filter(text => isCut(text.getBoundingClientRect())).map(text => text.textContent),
    sideways: [...page.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth).length,
    width: page.documentElement.scrollWidth,
    background: getComputedStyle(page.body).backgroundColor,
  }});"></iframe>"""


@dataclass
class Visit:
    """What Chromium found out about a page."""

    dom: str
    console: list
    requests: list


def chromium(profile, *arguments):
    """Run Chromium; without it skip, or fail where it is required."""
    if CHROMIUM is None:
        assert not os.environ.get("GPUSIM_REQUIRE_BROWSER"), "this machine must have Chromium"
        pytest.skip("chromium is not installed")
    command = [CHROMIUM, *FLAGS, *QUIET, *OFFLINE, f"--user-data-dir={profile}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)


def visit(page, folder, *arguments):
    """Load *page* and return its document, what it says on the console and every address that it asks for."""
    log = folder / "net.json"
    watch = ("--enable-logging=stderr", "--v=0", f"--log-net-log={log}", "--net-log-capture-mode=Default")
    run = chromium(folder / "profile", *watch, *arguments, "--dump-dom", page.as_uri())
    return Visit(run.stdout, re.findall(r"CONSOLE.*", run.stderr), _requests(json.loads(log.read_text())))


def _requests(log):
    """Return the addresses asked for on behalf of a page: those that Chromium wants for itself have no origin."""
    start = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    asked = [event["params"] for event in log["events"] if event["type"] == start and "url" in event.get("params", {})]
    return [request["url"] for request in asked if request["initiator"] != "not an origin"]


def measure(page, folder, width, scheme):
    """Return the visit of *page* in a frame *width* pixels wide, and what is shown of it, see `WRAPPER`."""
    wrapper = page.with_name("wrapper.html")
    wrapper.write_text(WRAPPER.format(width=width, name=page.name), encoding="utf-8")
    look = (
        f"--blink-settings=preferredColorScheme={scheme}",
        "--window-size=1400,2000",
        "--allow-file-access-from-files",
    )
    seen = visit(wrapper, folder, *look)
    found = re.search(r"<title>(.*?)</title>", seen.dom, re.DOTALL)
    return seen, json.loads(unescape(found[1]))
