"""The page's parts that make no request: Markdown, word diff, server-sent events, numbers."""

from __future__ import annotations

from typing import Any

import pytest
from selenium import webdriver

from tests.server.page.browser import Page, needs_driver
from tests.server.page.fake import Fake

pytestmark = needs_driver


@pytest.fixture(scope="module")
def parts(driver: webdriver.Chrome, server: tuple[Fake, str]) -> Page:
    """Any page whose modules can be imported."""
    page = Page(driver, server[1])
    page.open()
    return page


MARKDOWN = {
    "one\ntwo\n\nthree": "<p>one\ntwo</p><p>three</p>",
    "a **b** *c* `d` __e__ _f_": (
        "<p>a <strong>b</strong> <em>c</em> <code>d</code> <strong>e</strong> <em>f</em></p>"
    ),
    "***both*** and **a *b* c**": (
        "<p><strong><em>both</em></strong> and <strong>a <em>b</em> c</strong></p>"
    ),
    "snake_case_name 2 * 3 * 4 **open": "<p>snake_case_name 2 * 3 * 4 **open</p>",
    r"\*not\* `\*as is\*` ``a ` b``": r"<p>*not* <code>\*as is\*</code> <code>a ` b</code></p>",
    "# One\n### Three #\n#hash": "<h3>One</h3><h5>Three</h5><p>#hash</p>",
    "- a\n- b\n  more\n\n- c": "<ul><li><p>a</p></li><li><p>b\nmore</p></li><li><p>c</p></li></ul>",
    "3. a\n4. b\n   - c\n     - d\n   - e\n5. f": (
        '<ol start="3"><li><p>a</p></li><li><p>b</p><ul><li><p>c</p><ul><li><p>d</p></li></ul></li>'
        "<li><p>e</p></li></ul></li><li><p>f</p></li></ol>"
    ),
    "text\n- a\n\nafter": "<p>text</p><ul><li><p>a</p></li></ul><p>after</p>",
    "1. a\n- b": '<ol start="1"><li><p>a</p></li></ol><ul><li><p>b</p></li></ul>',
    "a\n\n---\n\n* * *\nb": "<p>a</p><hr><hr><p>b</p>",
    "< & > \"'": "<p>&lt; &amp; &gt; \"'</p>",
    "": "",
}


@pytest.mark.parametrize("text", MARKDOWN, ids=repr)
def test_markdown(parts: Page, text: str) -> None:
    made = parts.module(
        "markdown.js", "((d) => (m.render(d, v[0]), d.innerHTML))(document.createElement('div'))", text
    )
    assert made == MARKDOWN[text]


@pytest.mark.parametrize(
    ("text", "language", "code"),
    [
        ("```py\nx = 1\n\n  y\n```\nend", "py", "x = 1\n\n  y"),
        ("~~~\n```\n~~~", "text", "```"),
        ("```\nstill **open", "text", "still **open"),
        ("````\n```\n````", "text", "```"),
        ("- a\n  ```\n  in\n    side\n  ```", "text", "in\n  side"),
    ],
)
def test_code_blocks(parts: Page, text: str, language: str, code: str) -> None:
    look = "[d.querySelector('.code-head span').textContent, d.querySelector('pre').textContent]"
    expression = f"((d) => (m.render(d, v[0]), {look}))(document.createElement('div'))"
    assert parts.module("markdown.js", expression, text) == [language, code]


def test_every_beginning_of_a_text_can_be_shown_and_ends_as_the_whole(parts: Page) -> None:
    text = "# A\n\n1. *b* `c`\n   - **d**\n\n```js\ne\n```\n[f](https://g.example) --- ***h*** _i_\n"
    step = "for (let i = 0; i <= v[0].length; i++) m.render(d, v[0].slice(0, i));"
    expression = f"((d, e) => {{ {step} m.render(e, v[0]); return [d.innerHTML, e.innerHTML]; }})" + (
        "(document.createElement('div'), document.createElement('div'))"
    )
    grown, whole = parts.module("markdown.js", expression, text)
    assert grown == whole


def test_blocks_that_did_not_change_stay(parts: Page) -> None:
    """A selection or the focus within them stays too."""
    expression = (
        "((d) => { m.render(d, 'a\\n\\nb'); const [a, b] = d.children; m.render(d, 'a\\n\\nb c\\n\\nd');"
        "return [d.children[0] === a, d.children[1] === b, d.textContent]; })(document.createElement('div'))"
    )
    assert parts.module("markdown.js", expression) == [True, False, "ab cd"]


@pytest.mark.parametrize(
    ("a", "b", "same_a", "same_b", "head"),
    [
        ("", "", [], [], 0),
        ("a b", "", [0, 0], [], 0),
        ("a b c", "a b c", [1, 1, 1], [1, 1, 1], 3),
        ("a b c", "a x c", [1, 0, 1], [1, 0, 1], 1),
        ("x a b", "a b y", [0, 1, 1], [1, 1, 0], 0),
        ("a b c d", "d a b", [1, 1, 0, 0], [0, 1, 1], 0),
    ],
)
def test_word_diff(parts: Page, a: str, b: str, same_a: list[int], same_b: list[int], head: int) -> None:
    expression = "(({ same, head }) => [...same.map((s) => [...s]), head])(m.diff(...v.slice(0, 2)))"
    assert parts.module("diff.js", expression, a.split(), b.split()) == [same_a, same_b, head]


def test_long_texts_are_compared_by_their_beginning(parts: Page) -> None:
    expression = "((n, o) => m.diff(n, o).same.map((s) => s.reduce((a, b) => a + b, 0)))(v[0], v[1])"
    a = [str(i) for i in range(5000)]
    assert parts.module("diff.js", expression, a, [*a[:10], "x", *a[10:]]) == [10, 10]


READ = """(async () => {
  const enqueue = (stream) => v[0].forEach((bytes) => stream.enqueue(new Uint8Array(bytes)));
  const body = new ReadableStream({ start: (stream) => (enqueue(stream), stream.close()) });
  const all = [];
  for await (const data of m.events(body)) all.push(data);
  return all;
})()"""
EVENTS: list[tuple[list[str], list[str]]] = [
    (["data: a\n\ndata: b\n\n"], ["a", "b"]),
    (["da", "ta: a", "\n", "\nda", "ta:b\n\n"], ["a", "b"]),
    ([": still here\n\ndata: a\r\n\r\nid: 3\nevent: x\ndata: b\ndata: c\n\n"], ["a", "b\nc"]),
    (["data: a\n\ndata: cut off"], ["a"]),
    (["data: Gr\u00fc\u00df\n\n"], ["Grüß"]),
]


@pytest.mark.parametrize(("sent", "data"), EVENTS)
def test_server_sent_events(parts: Page, sent: list[str], data: list[str]) -> None:
    """Split at any byte, also within a character."""
    pieces: list[list[int]] = [list(piece.encode()) for piece in sent]
    for chunks in (pieces, [[byte] for piece in pieces for byte in piece]):
        assert parts.module("sse.js", READ, chunks) == data


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("m.bytes(0)", "0 B"),
        ("m.bytes(999)", "999 B"),
        ("m.bytes(84100000)", "84.1 MB"),
        ("m.bytes(1e15)", "1,000 TB"),
        ("m.seconds(0.0984)", "98 ms"),
        ("m.seconds(12.345)", "12.3 s"),
        ("m.count(1, 'token')", "1 token"),
        ("m.count(1234, 'token')", "1,234 tokens"),
        ("m.times(3.16)", "3.2×"),
        ("m.times(31.6)", "32×"),
        ("m.percent(0.254)", "25 %"),
    ],
)
def test_numbers(parts: Page, expression: str, text: Any) -> None:
    assert parts.module("format.js", expression) == text
