"""Live gauges: what the server says of itself, while somebody looks."""

from __future__ import annotations

import time

from tests.server.page.browser import Page, needs_driver
from tests.server.page.fake import SMALL, Script

pytestmark = needs_driver
LOAD = {"running": 3, "waiting": 2, "kv_cache_usage": 0.254, "tokens_per_second": 118.26}


def hide(page: Page, hidden: bool) -> None:
    """As when another tab is looked at."""
    page.run(
        "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))",
        hidden,
    )


def test_they_follow_the_server(page: Page, script: Script) -> None:
    page.until(lambda: page.texts(".gauge dd") == ["0", "0", "0 %", "0"], "idle gauges")
    script.load = LOAD
    page.until(lambda: page.texts(".gauge dd") == ["3", "2", "25 %", "118"], "gauges of a busy server")
    width = page.run("return document.querySelector('.gauge .share:not([hidden]) span').style.width")
    assert width == "25.4%"


def test_a_page_that_is_not_seen_asks_nothing(page: Page, script: Script) -> None:
    page.until(lambda: script.polls, "a poll")
    hide(page, True)
    time.sleep(0.2)  # for what is under way
    polls = script.polls
    time.sleep(1.3)
    assert script.polls == polls
    hide(page, False)
    page.until(lambda: script.polls > polls, "a poll")


def test_they_are_those_of_the_models_in_view(page: Page) -> None:
    page.until(lambda: page.all(".gauge"), "gauges")
    assert len(page.all(".gauge")) == 1
    page.view("compare")
    assert len(page.all(".gauge")) == 2
    assert SMALL in page.texts(".gauge h2")


def test_they_ask_for_no_key(page: Page, script: Script) -> None:
    page.until(lambda: page.all(".gauge"), "gauges")
    script.key = "secret"
    page.until(lambda: page.all("#gauges.stale"), "a poll that is refused")
    assert not page.all("dialog")
