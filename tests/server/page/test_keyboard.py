"""Everything can be reached and done by keyboard, and what has the focus can be seen."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys

from tests.server.page.browser import NARROW, WIDE, Page, needs_driver
from tests.server.page.fake import Script

pytestmark = needs_driver

# What has the focus, whether it had it before, and whether one sees it: by its own outline or its box's.
FOCUSED = """
const focused = document.activeElement;
const outlined = (node) => node && getComputedStyle(node).outlineStyle !== "none";
const seen = focused === document.body || [focused, focused.closest(".box")].some(outlined);
const again = reached.has(focused);
reached.add(focused);
return [again, focused.id || focused.name || focused.textContent.slice(0, 20), seen];
"""
REACHABLE = """
const controls = document.querySelectorAll("a[href], button, select, input, textarea, .log");
return [...controls].filter((node) => node.checkVisibility() && !node.disabled)
  .map((node) => node.id || node.name || node.textContent.slice(0, 20));
"""


def walk(page: Page) -> dict[str, bool]:
    """What Tab reaches, and whether it is seen to have the focus."""
    page.run("window.reached = new Set(); document.activeElement.blur()")
    reached: dict[str, bool] = {}
    while len(reached) < 60:
        page.keys(Keys.TAB)
        again, name, seen = page.run(FOCUSED)
        if again:
            break
        reached[name] = seen and reached.get(name, True)
    return reached


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_tab_reaches_everything_and_shows_where_it_is(page: Page, size: tuple[int, int]) -> None:
    page.screen(*size)
    page.ask("Hi")
    for view in ("chat", "compare"):
        page.view(view)
        reached = walk(page)
        assert set(page.run(REACHABLE)) <= set(reached)
        assert all(reached.values()), reached


def test_a_whole_chat_without_a_mouse(page: Page, script: Script) -> None:
    page.ready()
    script.every, script.pause = ["word "] * 200, 0.01
    page.keys(*"One")
    page.keys(Keys.ENTER, held=Keys.SHIFT)
    page.keys(*"two", Keys.ENTER)
    page.begun()
    assert script.asked[-1]["messages"][-1]["content"] == "One\ntwo"
    page.keys(Keys.ESCAPE)
    page.idle()
    script.every, script.pause = ["done"], 0
    page.keys(Keys.TAB, Keys.TAB, held=Keys.SHIFT)  # over Copy to Regenerate
    page.keys(Keys.ENTER)
    page.until(lambda: page.answer == "done", "another answer")
    assert page.run("return document.activeElement.id") == "prompt"


def test_enter_sends_nothing_while_an_answer_comes_or_a_word_is_composed(page: Page, script: Script) -> None:
    page.ready()
    composing = (
        "new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true, cancelable: true})"
    )
    page.find("#prompt").send_keys("Hi")
    page.run(f"document.querySelector('#prompt').dispatchEvent({composing})")
    assert script.asked == []
    script.every, script.pause = ["word "] * 60, 0.01
    page.press(Keys.ENTER)
    page.press("Next", Keys.ENTER)
    assert page.find("#prompt").get_attribute("value") == "Next"
    page.idle()
    assert len(script.asked) == 1
    page.find("#prompt").clear()
    page.press("  ", Keys.ENTER)
    assert len(script.asked) == 1


def test_every_control_has_a_name(page: Page) -> None:
    page.ask("Hi")
    page.view("compare")
    fields = "[...document.querySelectorAll('select, input, textarea')]"
    assert page.run(f"return {fields}.filter((field) => !field.labels.length)") == []
    nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "textbox", "combobox", "spinbutton", "checkbox", "link"}
    controls = [node for node in nodes if not node["ignored"] and node["role"]["value"] in roles]
    assert len(controls) > 15
    assert all(node["name"]["value"].strip() for node in controls)
