"""A conversation: type, stream, stop, regenerate, edit, start anew, come back."""

from __future__ import annotations

import json
import re

from selenium.webdriver.common.keys import Keys

from tests.server.page.browser import Page, needs_driver
from tests.server.page.fake import LARGE, SMALL, Script

pytestmark = needs_driver


def shown(page: Page) -> list[tuple[str, str]]:
    """Who said what, from top to bottom."""
    rows = page.all("#messages > li")
    who = ["user" if "question" in (row.get_attribute("class") or "") else "assistant" for row in rows]
    return list(zip(who, page.texts("#messages > li .text"), strict=True))


def turns(script: Script) -> list[tuple[str, str]]:
    """Of the last request."""
    return [(turn["role"], turn["content"]) for turn in script.asked[-1]["messages"]]


def test_an_answer_streams(page: Page, script: Script) -> None:
    script.every, script.pause = ["One", " two", " three"], 1.0  # each is seen, however slow the machine
    page.send("Count")
    page.until(lambda: page.all(".waiting"), "sign of waiting")
    assert page.text(".meta") == "Waiting for the first token"
    page.until(lambda: page.texts(".reply .text") == ["One"], "first piece")
    assert page.find(".reply").get_attribute("aria-busy") == "true"
    page.idle()
    assert shown(page) == [("user", "Count"), ("assistant", "One two three")]
    assert page.find(".reply").get_attribute("aria-busy") == "false"
    request = script.asked[0]
    assert request["model"] == LARGE
    assert request["stream"] is True
    assert request["stream_options"] == {"include_usage": True}
    assert turns(script) == [("user", "Count")]
    assert page.complaints() == []


def test_figures_of_the_answer_are_shown(page: Page, script: Script) -> None:
    script.every, script.pause = ["a ", "b ", "c "], 0.2
    page.ask("Letters")
    rate, tokens, first = page.text(".meta").split(" · ")
    assert 0 < float(rate.removesuffix(" tokens/s")) < 20  # two pauses between three tokens
    assert tokens == "3 tokens"
    assert re.fullmatch(r"first after (\d{3} ms|[\d.]+ s)", first)


def test_a_second_question_sends_the_conversation(page: Page, script: Script) -> None:
    page.ask("First")
    page.ask("Second")
    assert turns(script) == [("user", "First"), ("assistant", "Hello."), ("user", "Second")]


def test_stop_ends_the_answer_and_the_request(page: Page, script: Script) -> None:
    script.every, script.pause = ["word "] * 500, 0.01
    page.send("Go on")
    page.until(lambda: page.answer.count("word") > 3, "some words")
    page.click("Stop")
    page.idle()
    assert 3 < page.answer.count("word") < 500
    assert page.text(".meta").startswith("Stopped · ")
    page.until(lambda: script.left == 1, "server to be told")


def test_what_was_said_before_a_stop_is_part_of_the_conversation(page: Page, script: Script) -> None:
    script.every, script.pause = ["word "] * 500, 0.01
    page.send("Go on")
    page.until(lambda: "word" in page.answer, "a word")
    page.press(Keys.ESCAPE)
    page.idle()
    script.pause, script.every = 0, ["done"]
    page.ask("And now?")
    assert [role for role, _ in turns(script)] == ["user", "assistant", "user"]
    assert turns(script)[1][1].startswith("word ")


def test_regenerate_replaces_the_answer(page: Page, script: Script) -> None:
    page.ask("Hi")
    script.every = ["Something", " else"]
    page.click("Regenerate")
    page.idle()
    assert shown(page) == [("user", "Hi"), ("assistant", "Something else")]
    assert turns(script) == [("user", "Hi")]


def test_the_last_message_can_be_edited(page: Page, script: Script) -> None:
    page.ask("First")
    page.ask("Secnd")
    page.click("Edit")
    assert page.find("#prompt").get_attribute("value") == "Secnd"
    assert "Editing" in page.text(".editing")
    page.find("#prompt").clear()
    page.ask("Second")
    assert [text for _, text in shown(page)] == ["First", "Hello.", "Second", "Hello."]
    assert turns(script)[-1] == ("user", "Second")
    assert not page.all(".editing")


def test_an_edit_can_be_left(page: Page) -> None:
    page.ask("First")
    page.click("Edit")
    page.press(Keys.ESCAPE)
    assert page.find("#prompt").get_attribute("value") == ""
    assert [text for _, text in shown(page)] == ["First", "Hello."]


def test_only_the_last_turn_can_be_changed(page: Page) -> None:
    page.ask("First")
    page.ask("Second")
    assert page.texts("button").count("Edit") == page.texts("button").count("Regenerate") == 1


def test_a_new_chat_begins_empty_and_the_old_one_can_come_back(page: Page, script: Script) -> None:
    page.ask("First")
    page.click("New chat")
    assert shown(page) == []
    assert page.text("#empty h2") == LARGE
    page.click("Bring back the previous chat")
    assert [text for _, text in shown(page)] == ["First", "Hello."]
    page.click("New chat")
    page.ask("Other")
    assert turns(script) == [("user", "Other")]


def test_a_new_chat_ends_the_answer_at_hand(page: Page, script: Script) -> None:
    script.every, script.pause = ["word "] * 500, 0.01
    page.send("Go on")
    page.until(lambda: "word" in page.answer, "a word")
    page.click("New chat")
    page.until(lambda: script.left == 1, "server to be told")
    page.idle()
    script.every, script.pause = ["done"], 0
    page.ask("Other")
    assert [text for _, text in shown(page)] == ["Other", "done"]


def test_a_conversation_survives_a_reload(page: Page, script: Script) -> None:
    script.every = ["**bold**"]
    page.ask("First")
    before, figures = shown(page), page.text(".meta")
    page.reload()
    assert (shown(page), page.text(".meta")) == (before, figures)
    assert page.text(".reply strong") == "bold"
    page.ask("Second")
    assert turns(script)[:2] == [("user", "First"), ("assistant", "**bold**")]


def test_a_reload_amid_an_answer_keeps_what_came(page: Page, script: Script) -> None:
    script.every, script.pause = ["word "] * 500, 0.01
    page.send("Go on")
    page.until(lambda: "word" in page.run("return localStorage.getItem('intaglio.chat')"), "a saving")
    page.reload()
    assert page.answer.startswith("word")
    assert page.text(".meta").startswith("Interrupted · ")
    assert not page.busy
    assert page.button("Regenerate")


def test_another_tab_shows_the_same_conversation(page: Page) -> None:
    page.ask("First")
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    try:
        page.driver.get(page.url)
        page.ask("Second")
    finally:
        page.driver.close()
        page.driver.switch_to.window(first)
    page.until(lambda: len(shown(page)) == 4, "the other tab's turn")


def test_what_is_kept_may_be_anything(page: Page) -> None:
    for kept in ("{", "7", '"text"', "[null, 3, {}]", json.dumps([{"role": "tool", "content": "x"}])):
        page.run("localStorage.setItem('intaglio.chat', arguments[0])", kept)
        page.run("localStorage.setItem('intaglio.settings', arguments[0])", kept)
        page.reload()
        page.ask("Hi")
        assert [text for _, text in shown(page)] == ["Hi", "Hello."]
        assert page.complaints() == []


def test_the_picked_model_answers_and_stays_picked(page: Page, script: Script) -> None:
    page.ready()
    page.find(f"#model option[value='{SMALL}']").click()
    assert page.text("#empty p").startswith("84.1 MB · 4.52 bits per weight")
    page.reload()
    page.ask("Hi")
    assert script.asked[-1]["model"] == SMALL
    assert page.text(".who") == SMALL


def test_the_log_follows_the_answer_unless_scrolled_away(page: Page, script: Script) -> None:
    script.every, script.pause = ["line\n\n"] * 120, 0.01
    page.send("Go on")
    page.until(lambda: page.run("return log.scrollTop") > 200, "following")
    page.run("log.scrollTop = 0")
    page.idle()
    assert page.run("return log.scrollTop") == 0


def test_listeners_hear_the_whole_answer_once(page: Page, script: Script) -> None:
    script.every, script.pause = ["One", " two"], 0.05
    page.run(
        "window.said = []; new MutationObserver(() => said.push(document.querySelector('#said').textContent))"
        ".observe(document.querySelector('#said'), {childList: true})"
    )
    page.ask("Count")
    assert page.run("return said") == ["Answering", "One two"]
    assert page.find("#said").get_attribute("role") == "status"
