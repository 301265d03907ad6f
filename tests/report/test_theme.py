"""Colours of figures: seen on both backgrounds, and told apart by every kind of eye."""

from itertools import combinations

import numpy as np
import pytest

from gpusim.report.theme import CATEGORY_COLOURS, DARK, GREY, INK, MUTED, PAPER, RUNS, colour, themed

COLOURS = sorted({*CATEGORY_COLOURS.values(), *RUNS, GREY})
LIGHT = {name: name for name in (*COLOURS, INK, MUTED, PAPER)}
# Machado, Oliveira and Fernandes, 2009, "A physiologically-based model for simulation of color vision deficiency",
# for severity 1; on linear RGB.
EYES = {
    "normal": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(name):
    """Return linear RGB (IEC 61966-2-1)."""
    value = np.array([int(name[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """Return the contrast ratio of WCAG 2.2."""
    dark, light = sorted(TO_XYZ[1] @ linear(name) for name in (one, other))
    return (light + 0.05) / (dark + 0.05)


def lab(rgb):
    """Return CIE 1976 L*a*b* for D65."""
    x, y, z = TO_XYZ @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    root = [np.cbrt(value) if value > 0.008856 else 7.787 * value + 16 / 116 for value in (x, y, z)]
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


@pytest.mark.parametrize("shown", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_stand_out(shown):
    """WCAG 2.2: text has a contrast of 4.5 with its background, what a figure draws has 3."""
    assert min(contrast(shown.get(text, text), shown[PAPER]) for text in (INK, MUTED)) >= 4.5
    assert min(contrast(shown.get(name, name), shown[PAPER]) for name in COLOURS) >= 3


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("shown", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_are_told_apart(shown, eye):
    """Any two differ by 11 in CIE L*a*b* (2.3 is just noticeable), whatever cones an eye lacks."""
    seen = [lab(np.array(EYES[eye]) @ linear(shown[name])) for name in COLOURS]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 11


def test_svg_follows_the_page():
    """Colours become variables of the page, ids its own, labels tooltips."""
    svg = f'<g id="a" clip-path="url(#a)" role="graphics-symbol"><path aria-label="5 ms" d="M0" fill="{INK}"/></g>'
    assert themed(svg, "x-") == (
        f'<g id="x-a" clip-path="url(#x-a)"><path d="M0" fill="{colour(INK)}"><title>5 ms</title></path></g>'
    )
