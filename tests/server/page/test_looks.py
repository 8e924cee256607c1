"""How the page looks: readable in light and dark, wide and narrow, and still when that is asked for."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from tests.pages.browser import COLOUR
from tests.server.page.browser import NARROW, WIDE, Page, needs_driver
from tests.server.page.fake import LARGE, SMALL, Script

pytestmark = needs_driver
LOOK = Path(__file__).with_name("look.js").read_text(encoding="utf-8")
TEXT = (
    f"Some **bold** text, `code`, a [link](https://example.com) and a word of m{'o' * 80}re letters\n\n"
    "1. One\n2. Two\n   - Three\n\n### Heading\n\n"
    "```python\nprint('a line that is longer than a narrow screen is wide')\n```\n"
)


def look(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = page.run(COLOUR + LOOK)
    return found


def fine(page: Page, *, dark: bool) -> None:
    """Readable, in the right scheme, and nothing sticks out."""
    found = look(page)
    assert found["dark"] == dark
    assert found["texts"] > 10
    assert found["faint"] == []
    assert found["sideways"] == []
    assert found["scrolls"] <= 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW, (768, 1024)], ids=["wide", "narrow", "between"])
def test_everything_can_be_read(page: Page, script: Script, size: tuple[int, int], dark: bool) -> None:
    page.screen(*size, dark=dark)
    script.every, script.answers = [TEXT], {SMALL: [TEXT.replace("text", "words")]}
    page.ask("A question of some length, so that it does not fit on one line of a narrow screen")
    fine(page, dark=dark)
    script.broken = "the engine failed"
    page.ask("Again")
    page.click("Edit")
    fine(page, dark=dark)
    script.broken = None
    page.view("compare")
    page.ask("Why?")
    assert page.all("mark")
    fine(page, dark=dark)
    if not page.all("#side"):
        page.click("Settings")
    page.find("[name=top_p]").send_keys("3")
    fine(page, dark=dark)


def test_light_and_dark_are_different_pictures(page: Page) -> None:
    page.ask("Hi")
    pictures = []
    for dark in (False, True):
        page.screen(*WIDE, dark=dark)
        pictures.append(page.driver.get_screenshot_as_png())
    assert all(struct.unpack(">II", picture[16:24]) == WIDE for picture in pictures)
    assert all(len(picture) > 20_000 for picture in pictures)  # not an empty page
    assert pictures[0] != pictures[1]


@pytest.mark.parametrize("still", [False, True])
def test_nothing_moves_for_those_who_want_that(page: Page, script: Script, still: bool) -> None:
    script.pause = 2
    page.screen(*WIDE, still=still)
    page.send("Hi")
    page.until(lambda: page.all(".waiting"), "sign of waiting")
    name = page.run(
        "return getComputedStyle(document.querySelector('.waiting .text'), '::before').animationName"
    )
    assert name == ("none" if still else "breathe")


def test_long_names_and_many_models_fit(page: Page, script: Script) -> None:
    script.meta = {f"{LARGE}-{'long-' * 12}{number}": script.meta[LARGE] for number in range(3)}
    page.screen(*NARROW)
    page.reload()
    page.ask("Hi")
    fine(page, dark=False)
    page.view("compare")
    fine(page, dark=False)
