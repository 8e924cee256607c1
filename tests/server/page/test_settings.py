"""Sampling settings: sent when given, kept, and left out when they cannot be."""

from __future__ import annotations

from selenium.webdriver.common.keys import Keys

from tests.server.page.browser import NARROW, Page, needs_driver
from tests.server.page.fake import Script

pytestmark = needs_driver
FIELDS = {
    "temperature": 0.7,
    "top_p": 0.93,
    "top_k": 40,
    "min_p": 0.05,
    "seed": 7,
    "max_completion_tokens": 12,
}


def fill(page: Page) -> None:
    page.find("[name=system]").send_keys("Be brief.")
    for name, value in FIELDS.items():
        page.find(f"[name={name}]").send_keys(str(value))


def sampling(script: Script) -> dict[str, object]:
    """Of the last request."""
    return {name: value for name, value in script.asked[-1].items() if name in FIELDS}


def test_what_is_empty_is_left_to_the_model(page: Page, script: Script) -> None:
    page.ask("Hi")
    assert sampling(script) == {}
    assert [turn["role"] for turn in script.asked[-1]["messages"]] == ["user"]


def test_what_is_given_is_sent_and_survives_a_reload(page: Page, script: Script) -> None:
    fill(page)
    page.reload()
    page.ask("Hi")
    assert sampling(script) == FIELDS
    assert script.asked[-1]["messages"][0] == {"role": "system", "content": "Be brief."}
    page.click("Use defaults")
    page.reload()
    page.ask("Hi")
    assert sampling(script) == {}


def test_what_cannot_be_says_so_and_is_not_sent(page: Page, script: Script) -> None:
    page.find("[name=top_p]").send_keys("1.5")
    page.find("[name=top_k]").send_keys("2.5")
    page.find("[name=seed]").send_keys("5")
    problems = [text for text in page.texts("#settings small") if text.startswith("Not used. ")]
    assert len(problems) == len(page.all("[aria-invalid=true]")) == 2
    page.ask("Hi")
    assert sampling(script) == {"seed": 5}


def test_on_a_narrow_screen_they_lie_over_the_view(page: Page) -> None:
    page.screen(*NARROW)
    page.reload()
    assert not page.all("#side")
    page.click("Settings")
    assert page.run("return document.activeElement.name") == "system"
    assert page.run("return document.querySelector('main').inert")
    page.press(Keys.ESCAPE)
    assert not page.all("#side")
    assert page.run("return document.activeElement.id") == "toggle-settings"
    assert not page.run("return document.querySelector('main').inert")


def test_on_a_wide_screen_they_stay_as_they_were_left(page: Page) -> None:
    page.until(lambda: page.all("#side"), "settings")
    page.click("Settings")
    assert not page.all("#side")
    page.reload()
    assert not page.all("#side")
    assert page.find("#toggle-settings").get_attribute("aria-expanded") == "false"
