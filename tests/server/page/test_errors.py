"""What goes wrong is said plainly, and leaves the page usable."""

from __future__ import annotations

import pytest
from selenium import webdriver

from tests.server.page.browser import Page, needs_driver
from tests.server.page.fake import Fake, Script, serving

pytestmark = needs_driver


@pytest.mark.parametrize("status", [400, 429, 503])
def test_the_servers_own_words_are_shown(page: Page, script: Script, status: int) -> None:
    script.refuse = (status, f"reason number {status}")
    page.send("Hi")
    assert page.problem == f"reason number {status}"
    page.idle()
    script.refuse = None
    page.click("Regenerate")
    page.idle()
    assert page.answer == "Hello."
    assert not page.all(".problem")


def test_a_time_to_wait_is_shown(page: Page, script: Script) -> None:
    script.refuse, script.retry_after = (429, "the queue is full"), "3"
    page.send("Hi")
    assert page.problem == "the queue is full (try again in 3 s)"


def test_an_error_amid_the_answer_keeps_what_came(page: Page, script: Script) -> None:
    script.every, script.broken = ["Half", " an"], "the engine failed"
    page.send("Hi")
    assert page.problem == "the engine failed"
    assert page.answer == "Half an"
    page.reload()
    assert (page.problem, page.answer) == ("the engine failed", "Half an")


@pytest.mark.parametrize("cut", [0, 2])
def test_a_lost_connection_is_told_from_an_end(page: Page, script: Script, cut: int) -> None:
    script.every, script.cut, script.pause = (
        ["Half", " an", " answer"],
        cut,
        0.1,
    )  # unread pieces would be lost too
    page.send("Hi")
    assert "connection to the server was lost" in page.problem
    page.idle()
    assert page.texts(".reply .text") == ([] if cut == 0 else ["Half an"])


def test_an_end_without_a_sign_of_it_is_a_lost_connection(page: Page, script: Script) -> None:
    script.mute = True
    page.send("Hi")
    assert "connection to the server was lost" in page.problem
    assert page.answer == "Hello."


def test_questions_without_an_answer_are_sent_as_one_turn(page: Page, script: Script) -> None:
    script.refuse = (503, "not now")
    page.send("First")
    assert page.problem
    page.idle()
    script.refuse = None
    page.ask("Second")
    assert script.asked[-1]["messages"] == [{"role": "user", "content": "First\n\nSecond"}]


def test_an_answer_cut_at_the_limit_says_so(page: Page, script: Script) -> None:
    script.finish = "length"
    page.ask("Hi")
    assert page.text(".meta").startswith("Cut off at the limit of tokens · ")


def test_a_key_is_asked_for_and_kept_for_the_tab(page: Page, script: Script) -> None:
    script.key = "secret"
    page.reload()
    page.until(lambda: page.text("#key-reason") == "This server asks for an API key.", "dialog")
    page.press("wrong\n")
    page.until(lambda: page.text("#key-reason") == "The server did not accept the key.", "second try")
    page.press("secret\n")
    page.ready()
    assert page.ask("Hi") == "Hello."
    page.reload()
    assert page.ask("Again") == "Hello."
    assert not page.all("dialog")
    assert page.run("return sessionStorage.getItem('intaglio.key')") == '"secret"'
    assert "secret" not in page.run("return JSON.stringify(localStorage)")


def test_a_key_that_is_asked_for_amid_a_chat_repeats_the_request(page: Page, script: Script) -> None:
    page.ready()
    script.key = "secret"
    page.send("Hi")
    page.until(lambda: page.all("dialog"), "dialog")
    page.press("secret\n")
    page.idle()
    assert page.answer == "Hello."


def test_without_a_key_the_refusal_is_shown(page: Page, script: Script) -> None:
    page.ready()
    script.key = "secret"
    page.send("Hi")
    page.until(lambda: page.all("dialog"), "dialog")
    page.click("Cancel")
    assert page.problem == "a key is needed"


@pytest.fixture
def deserted(driver: webdriver.Chrome, script: Script) -> Page:
    """The page of a server that is gone by now."""
    with serving(Fake().app) as url:
        page = Page(driver, url)
        page.open()
        page.ready()
        page.until(lambda: page.all("#gauges"), "gauges")
    return page


def test_a_server_that_is_gone_is_said_to_be(deserted: Page) -> None:
    deserted.send("Hi")
    assert deserted.problem.startswith("The server cannot be reached.")
    deserted.until(lambda: deserted.all("#gauges.stale"), "faint gauges")
    assert deserted.texts(".question .text") == ["Hi"]


def test_models_are_asked_for_again_when_wanted(page: Page, script: Script) -> None:
    page.ready()
    meta, script.key = script.meta, "secret"
    page.run("sessionStorage.clear()")
    page.reload()
    page.until(lambda: page.all("dialog"), "dialog")
    page.click("Cancel")
    page.until(lambda: page.text("#notice p") == "a key is needed", "notice")
    script.key, script.meta = None, meta
    page.click("Try again")
    page.ready()
    assert not page.all("#notice")


def test_without_a_model_nothing_is_asked(page: Page, script: Script) -> None:
    script.meta = {}
    page.reload()
    page.find("#prompt").send_keys("Hi\n")
    assert page.text("#notice p") == "There is no model to ask."
    assert page.find("#prompt").get_attribute("value") == "Hi"
    page.click("Dismiss")
    assert not page.all("#notice")
