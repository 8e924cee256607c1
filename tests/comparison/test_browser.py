"""The page in a real browser: readable, in both colour schemes, on wide and narrow windows."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from intaglio.comparison.page import page
from tests.comparison.small import comparison
from tests.pages.browser import look, needs_browser, picture

pytestmark = needs_browser


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_can_be_read(dark: bool, tmp_path: Path) -> None:
    found = look(page(comparison()), tmp_path, dark=dark)
    assert found["dark"] == dark
    assert found["contrast"] >= 4.5
    assert found["points"] >= 3
    assert found["outside"] == []
    assert found["covered"] == []
    assert found["width"] <= 0
    assert found["tip"] == "visible"  # of the point that has the focus
    assert all(height > 100 for height in found["heights"])


def test_a_narrow_window_needs_no_scrolling_sideways(tmp_path: Path) -> None:
    assert look(page(comparison()), tmp_path, dark=False, width=500)["width"] <= 0


def test_light_and_dark_are_different_pictures(tmp_path: Path) -> None:
    light, dark = (picture(page(comparison()), tmp_path, dark=scheme) for scheme in (False, True))
    assert struct.unpack(">II", light[16:24]) == (1100, 2600)
    assert len(light) > 50_000  # not an empty page
    assert light != dark
