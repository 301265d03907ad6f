"""Colours of the figures of a run, and how a figure drawn on white follows the page into the dark.

Hues are those of Okabe and Ito (2008, "Color Universal Design"), which readers with any kind of colour vision tell apart,
made darker on white and lighter on black until each has a contrast of 3 with its background (WCAG 2.2, 1.4.11).
"""

from __future__ import annotations

import re
from typing import Final

PAPER, INK, MUTED, GRID = "#ffffff", "#1b1b1b", "#6b6b6b", "#dcdcdc"
BLUE, ORANGE, GREEN, VERMILLION = "#0060a8", "#c48700", "#007a55", "#b84a00"
SKY, PURPLE, GREY = "#3d9bd6", "#b8478a", "#8f8f8f"

RUNS: Final = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
"""Of runs side by side; there are no more than these."""
CATEGORY_COLOURS: Final = {
    "weights": BLUE,
    "kv": SKY,
    "activations": PURPLE,
    "compute": ORANGE,
    "communication": VERMILLION,
    "launch": GREY,
    "waiting": INK,
    "transfer": GREEN,
}
"""Of where a step's time goes."""
DARK: Final = {
    PAPER: "#15181c",
    INK: "#e8e8e8",
    MUTED: "#a0a4a8",
    GRID: "#33383e",
    BLUE: "#2f7fd0",
    ORANGE: "#f0b429",
    GREEN: "#1fa87f",
    VERMILLION: "#e2611c",
    SKY: "#8fd0f5",
    PURPLE: "#d98abb",
    GREY: "#8a8f94",
}
"""What takes the place of each colour on a dark page."""
LOOK: Final = {
    "background": PAPER,
    "font": "system-ui, sans-serif",
    "padding": 4,
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "titleFontWeight": "normal",
        "gridColor": GRID,
        "domainColor": MUTED,
        "tickColor": MUTED,
        "labelFontSize": 12,
        "titleFontSize": 12,
    },
    "legend": {
        "labelColor": INK,
        "labelFontSize": 12,
        "title": None,
        "symbolStrokeWidth": 2.5,
        "labelLimit": 260,
        "columnPadding": 18,
    },
    "title": {"color": INK, "anchor": "start", "fontSize": 13, "fontWeight": 600},
}
"""The configuration of all figures of runs."""


def style() -> str:
    """Return the colours of a page in light and dark, and the variables that `themed` figures take theirs from."""
    dark = ";".join(f"{_variable(colour)}:{there}" for colour, there in DARK.items())
    return (
        f":root{{color-scheme:light dark}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
        f"body{{color:{colour(INK)};background:{colour(PAPER)}}}"
        f"th{{background:{colour(PAPER)}}}td,th{{border-color:{colour(GRID)}}}"
    )


def colour(which: str) -> str:
    """Return *which* as a page writes it, so that it may be another in the dark."""
    return f"var({_variable(which)},{which})" if which in DARK else which


def themed(svg: str, prefix: str) -> str:
    """Return *svg* for a page: colours of the page, numbers as tooltips, ids that begin with *prefix*."""
    for which in DARK:
        svg = svg.replace(f'"{which}"', f'"{colour(which)}"')
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = svg.replace("url(#", f"url(#{prefix}")
    svg = re.sub(r' role="graphics-\w+"| aria-roledescription="[^"]*"| aria-hidden="true"', "", svg)
    return re.sub(r'<path aria-label="([^"]*)"([^>]*?)/>', r"<path\2><title>\1</title></path>", svg)


def _variable(which: str) -> str:
    return f"--{which.removeprefix('#')}"
