"""Two models side by side: what compression did."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys

from tests.server.page.browser import Page, needs_driver
from tests.server.page.fake import LARGE, META, SMALL, Script

pytestmark = needs_driver


@pytest.fixture
def compare(page: Page) -> Page:
    page.ready()
    page.view("compare")
    return page


def pieces(text: str) -> list[str]:
    return [f"{word} " for word in text.split()]


def marks(page: Page, side: int) -> list[str]:
    return [mark.text for mark in page.all(".pane")[side].find_elements("css selector", "mark")]


def figures(page: Page, side: int) -> dict[str, str]:
    pane = page.all(".pane")[side]
    names, values = (pane.find_elements("css selector", tag) for tag in ("dt", "dd"))
    return {name.text: value.text for name, value in zip(names, values, strict=True)}


def test_sizes_are_shown_before_anything_is_asked(compare: Page) -> None:
    assert figures(compare, 0) | {"Size": "269 MB", "Bits/weight": "16"} == figures(compare, 0)
    assert figures(compare, 1) | {"Size": "84.1 MB", "Bits/weight": "4.52"} == figures(compare, 1)
    assert compare.text("#verdict") == f"{SMALL} is 3.2× smaller than {LARGE}."


def test_both_answer_the_same_question_one_after_the_other(compare: Page, script: Script) -> None:
    script.answers = {
        LARGE: pieces("The sky is blue since air scatters blue light"),
        SMALL: pieces("The sky is blue as air scatters light"),
    }
    script.pause = 0.5
    compare.send("Why?")
    waiting = ["Waiting for the first token", "Its turn comes"]
    compare.until(lambda: compare.texts(".pane .meta") == waiting, "turns")
    script.pause = 0.02
    compare.idle()
    assert [asked["model"] for asked in script.asked] == [LARGE, SMALL]
    assert all(asked["messages"] == [{"role": "user", "content": "Why?"}] for asked in script.asked)
    assert all(asked["temperature"] == 0 for asked in script.asked)
    assert [figures(compare, side)["Tokens"] for side in (0, 1)] == ["9", "8"]
    assert all("ms" in figures(compare, side)["First token"] for side in (0, 1))
    assert all(float(figures(compare, side)["Tokens/s"]) > 0 for side in (0, 1))


def test_words_that_differ_are_marked(compare: Page, script: Script) -> None:
    script.answers = {
        LARGE: pieces("The sky is **blue since** air scatters blue light"),
        SMALL: pieces("The sky is **blue as** air scatters light"),
    }
    compare.ask("Why?")
    assert (marks(compare, 0), marks(compare, 1)) == (["since", "blue"], ["as"])
    assert "begin with the same 4 words and share 82 % of all words" in compare.text("#verdict")
    compare.find("#mark").click()
    assert not compare.all("mark")
    compare.find("#mark").click()
    assert marks(compare, 0) == ["since", "blue"]
    assert compare.text(".pane strong") == "blue since"


def test_the_same_answer_is_said_to_be(compare: Page) -> None:
    compare.ask("Why?")
    assert "The answers are the same, word for word." in compare.text("#verdict")
    assert not compare.all("mark")


def test_both_can_answer_at_once_with_the_settings(compare: Page, script: Script) -> None:
    compare.find("#in-turn").click()
    compare.find("#greedy").click()
    compare.find("[name=temperature]").send_keys("0.5")
    script.every, script.pause = ["word "] * 30, 0.02
    compare.send("Why?")
    compare.until(
        lambda: all("word" in text for text in compare.texts(".pane .text")) and compare.busy, "both"
    )
    compare.idle()
    assert [asked["temperature"] for asked in script.asked] == [0.5, 0.5]


def test_stop_ends_both(compare: Page, script: Script) -> None:
    script.every, script.pause = ["word "] * 500, 0.01
    compare.send("Why?")
    compare.begun()
    compare.press(Keys.ESCAPE)
    compare.idle()
    assert compare.texts(".pane .meta") == ["Stopped", "Not asked"]
    assert len(script.asked) == 1


def test_an_error_of_one_is_shown_with_it(compare: Page, script: Script) -> None:
    script.broken = "the engine failed"
    compare.ask("Why?")
    assert compare.texts(".pane .problem") == ["the engine failed"] * 2


def test_another_model_has_no_answer_yet(compare: Page) -> None:
    compare.ask("Why?")
    compare.find(f".pane select option[value='{SMALL}']").click()
    assert compare.texts(".pane .text") == ["Hello."]
    compare.reload()
    compare.until(
        lambda: compare.run("return document.querySelector('.pane select').value") == SMALL, "the pick"
    )


def test_one_model_alone_is_told_how_to_get_another(page: Page, script: Script) -> None:
    script.meta = {LARGE: META[LARGE]}
    page.open("#compare")
    page.until(lambda: "intaglio serve MODEL_A MODEL_B" in page.text("#verdict"), "advice")


def test_the_chat_goes_on_while_the_comparison_is_looked_at(page: Page, script: Script) -> None:
    script.every, script.pause = ["word "] * 30, 0.02
    page.send("Go on")
    page.begun()
    page.view("compare")
    page.driver.back()
    page.until(lambda: page.all("#chat"), "chat")
    page.idle()
    assert page.answer.count("word") == 30
