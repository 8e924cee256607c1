"""What holds of the page whatever server is behind it; see conftest.py for how to name one."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys

from tests.server.page.browser import Page, needs_driver

pytestmark = needs_driver
LONG = "Count from one to five hundred in words."


def test_an_answer_streams_and_stays(any_page: Page) -> None:
    any_page.send(LONG)
    any_page.begun()
    assert any_page.busy
    any_page.press(Keys.ESCAPE)
    any_page.idle()
    said = any_page.answer
    assert said
    assert any_page.text(".meta").startswith("Stopped · ")
    any_page.reload()
    assert any_page.answer == said
    assert any_page.texts(".question .text") == [LONG]


def test_it_can_be_asked_again(any_page: Page) -> None:
    any_page.find("[name=max_completion_tokens]").send_keys("8")
    assert any_page.ask("Say hello.")
    any_page.click("Regenerate")
    any_page.idle()
    assert any_page.answer
    assert len(any_page.all("#messages > li")) == 2
    assert "tokens/s" in any_page.text(".meta")


def test_the_gauges_show_the_server(any_page: Page) -> None:
    any_page.until(lambda: any_page.all(".gauge"), "gauges")
    assert any_page.texts(".gauge dt") == ["Running", "Waiting", "KV use", "Tokens/s"]
    assert all(any_page.texts(".gauge dd"))
    assert any_page.complaints() == []


def test_two_models_are_compared(any_page: Page) -> None:
    any_page.ready()
    if len(any_page.find("#model").find_elements("css selector", "option")) < 2:
        pytest.skip("the server serves one model")
    any_page.find("[name=max_completion_tokens]").send_keys("8")
    any_page.view("compare")
    any_page.ask("Say hello.")
    assert all(any_page.texts(".pane .text"))
    assert all(value != "–" for value in any_page.texts(".pane dd"))
    assert "answers" in any_page.text("#verdict")
