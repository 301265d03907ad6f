"""The example of conversations: what the cache is worth, as docs/prefix-caching.md says."""

import re

import gpusim as gs
from helpers import REPOSITORY


def test_the_page_says_what_the_example_gives():
    """Mean TTFT and p99 of the gaps with the cache and without, in ms, are those of the text."""
    text = " ".join((REPOSITORY / "docs" / "prefix-caching.md").read_text(encoding="utf-8").split())
    said = re.search(r"mean TTFT grows from (\d+) to (\d+) ms, and its p99 token gap from (\d+) to (\d+) ms", text)
    ran = []
    for cached in (True, False):
        result = gs.simulate(gs.load("sessions", overrides={"serving.enable_prefix_caching": cached}))
        ran.append((round(1e3 * result.ttft.mean), round(1e3 * result.itl.p99)))
    (ttft, itl), (ttft_without, itl_without) = ran
    assert tuple(map(int, said.groups())) == (ttft, ttft_without, itl, itl_without)
