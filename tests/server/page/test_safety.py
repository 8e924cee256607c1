"""What models, servers and errors say stays text, whatever it is."""

from __future__ import annotations

from tests.server.page.browser import Page, needs_driver
from tests.server.page.fake import META, SMALL, Script

pytestmark = needs_driver
EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script></script></textarea><b>bold</b>'


def harmless(page: Page) -> bool:
    made = page.run("return document.querySelectorAll('img, script:not([src]), b, iframe').length")
    return not made and page.run("return window.hacked") is None


AROUND = ("{}", "**{}**", "`{}`", "# {}", "- {}", "[{}](https://example.com)", "```{}\n{}\n```")
NOT_OF_THE_WEB = (
    "[x](javascript:window.hacked=1)",
    "[x](JaVaScRiPt:alert)",
    "[x](data:text/html,<script>window.hacked=1</script>)",
    "[x](vbscript:x)",
    "[x](/page/main.js)",
)


def test_an_answer_stays_text(page: Page, script: Script) -> None:
    text = "\n\n".join(AROUND).replace("{}", EVIL)
    script.every = [text[i : i + 7] for i in range(0, len(text), 7)]
    for _ in range(2):
        page.ask(EVIL)
        assert page.answer.count(EVIL) == len(AROUND) + 1
        assert page.texts(".question .text")[-1] == EVIL
        assert harmless(page)
        page.reload()


def test_only_links_to_the_web_are_links(page: Page, script: Script) -> None:
    script.every = ["\n\n".join(NOT_OF_THE_WEB)]
    page.ask("Hi")
    assert page.texts(".reply p:not([class])") == list(NOT_OF_THE_WEB)
    assert not page.all(".reply a")


def test_a_link_says_where_it_leads_and_tells_nothing(page: Page, script: Script) -> None:
    script.every = ["[my bank](https://evil.example/login) and https://example.com/a."]
    assert page.ask("Hi") == "my bank (evil.example) and https://example.com/a."
    first, second = page.all(".reply a")
    assert first.get_attribute("href") == "https://evil.example/login"
    assert second.get_attribute("href") == "https://example.com/a"
    assert first.get_attribute("rel") == "noopener noreferrer nofollow"
    assert first.get_attribute("target") == "_blank"


def test_a_models_name_stays_text(page: Page, script: Script) -> None:
    name = f"model{EVIL}"
    script.meta = {name: META[SMALL], f"{name}2": META[SMALL]}
    page.reload()
    page.ask("Hi")
    assert page.text(".who") == name
    page.view("compare")
    page.ask("Hi")
    assert name in page.texts(".gauge h2")
    assert harmless(page)


def test_an_error_stays_text(page: Page, script: Script) -> None:
    script.refuse = (400, EVIL)
    page.send("Hi")
    assert page.problem == EVIL
    assert harmless(page)


def test_marked_answers_stay_text(page: Page, script: Script) -> None:
    page.ready()
    script.every = [f"{EVIL} {EVIL}"]
    script.answers = {SMALL: [f"other {EVIL}"]}
    page.view("compare")
    page.ask("Hi")
    assert page.all("mark")
    assert EVIL in page.answer
    assert harmless(page)


def test_the_policy_stops_what_would_slip_through(page: Page) -> None:
    page.run(
        "window.stopped = [];"
        "addEventListener('securitypolicyviolation', (event) => stopped.push(event.effectiveDirective));"
        "const made = document.createElement('div');"
        'made.innerHTML = \'<img src="https://example.com/x.png" onerror="window.hacked=1">\';'
        "document.body.append(made);"
        "fetch('https://example.com').catch(() => {});"
    )
    page.until(
        lambda: {"img-src", "connect-src", "script-src-attr"} <= set(page.run("return stopped")), "stops"
    )
    assert page.run("return window.hacked") is None


def test_hostile_text_takes_no_long_time(page: Page) -> None:
    for unit in (
        "*a ",
        "**a",
        "_a _",
        "`",
        "`a ``b ",
        "[a](",
        "![",
        "- ",
        "1. a\n   ",
        "  - a\n",
        "# ",
        "https://a",
        "\\",
    ):
        render = "m.render(document.createElement('div'), v[0].repeat(v[1]))"
        timed = f"((start) => ({render}, performance.now() - start))(performance.now())"
        assert page.module("markdown.js", timed, unit, 30_000 // len(unit)) < 2000, unit
