"""The parser of calls: however the text is cut, and whatever a model makes of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.server.tool_formats import HERMES, LLAMA, MISTRAL, Format, format_of
from intaglio.server.tool_parser import ToolParser
from intaglio.server.tool_pieces import CallPiece, Words, whole

NAMES = ["get", "get_all"]
Said = tuple[str | None, list[tuple[str, str]]]


def pieces(form: Format, parts: list[str]) -> list[Words | CallPiece]:
    parser = ToolParser(form, NAMES)
    return [*(piece for part in parts for piece in parser.push(part)), *parser.finish()]


def said(form: Format, text: str) -> Said:
    """Words, and calls as name and arguments; the same if every letter comes alone."""
    found = [whole(pieces(form, parts)) for parts in ([text], list(text))]
    short = [
        (words, [(c["function"]["name"], c["function"]["arguments"]) for c in calls])
        for words, calls in found
    ]
    assert short[0] == short[1]
    return short[0]


def call(name: str, arguments: str, key: str = "arguments") -> str:
    return f'{{"name": "{name}", "{key}": {arguments}}}'


ODD = '{"a": "}\\"{", "b": {"c": ["}"]}, "d": "<tool_call>"}'
ONE = f"<tool_call>\n{call('get', ODD)}\n</tool_call>"


@pytest.mark.parametrize(
    ("form", "text", "words", "calls"),
    [
        (HERMES, ONE, None, [("get", ODD)]),
        (HERMES, f"  {ONE}\n", None, [("get", ODD)]),
        (HERMES, f"Sure:\n\n{ONE}", "Sure:", [("get", ODD)]),
        (HERMES, f"{ONE}\n{ONE}", None, [("get", ODD)] * 2),
        (HERMES, f"<tool_call>{call('get_all', '{}')}</tool_call>", None, [("get_all", "{}")]),
        (HERMES, ' <tool_call> { "name" :"get" , "arguments" : {} } </tool_call>', None, [("get", "{}")]),
        (HERMES, f"<tool_call>{call('get', '{}')} and more", " and more", [("get", "{}")]),
        (HERMES, f"Sure:\n\n{ONE} Done.", "Sure: Done.", [("get", ODD)]),
        (MISTRAL, f"[TOOL_CALLS][{call('get', ODD)}]", None, [("get", ODD)]),
        (
            MISTRAL,
            f"Hm [TOOL_CALLS] [{call('get', '{}')}, {call('get_all', ODD)}]",
            "Hm",
            [("get", "{}"), ("get_all", ODD)],
        ),
        (LLAMA, call("get", ODD, "parameters"), None, [("get", ODD)]),
    ],
)
def test_calls(form: Format, text: str, words: str | None, calls: list[tuple[str, str]]) -> None:
    assert said(form, text) == (words, calls)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (HERMES, ""),
        (HERMES, "  \n "),
        (HERMES, "plain words \n"),
        (HERMES, "1 < 2 <tool <tool_call"),
        (HERMES, "<tool_call>"),
        (HERMES, "<tool_call>no JSON</tool_call>"),
        (HERMES, f"<tool_call>{call('other', '{}')}</tool_call>"),
        (HERMES, f"<tool_call>{call('get', '[]')}</tool_call>"),
        (HERMES, '<tool_call>{"arguments": {}, "name": "get"}</tool_call>'),
        (HERMES, '<tool_call>{"name": "get"}</tool_call>'),
        (HERMES, '<tool_call>\n{"name": "ge'),
        (HERMES, "<tool_call>" + " " * 300),
        (HERMES, call("get", "{}")),
        (MISTRAL, "[TOOL_CALLS]nothing [1, 2]"),
        (LLAMA, "text, then " + call("get", "{}", "parameters")),
        (LLAMA, call("get", "{}")),
        (LLAMA, '{"answer": 42}'),
        (LLAMA, "{"),
    ],
)
def test_what_is_no_call_is_text(form: Format, text: str) -> None:
    assert said(form, text) == (text, [])


def test_a_call_after_one_that_was_none() -> None:
    assert said(HERMES, f"<tool_call>hm</tool_call>{ONE}") == ("<tool_call>hm</tool_call>", [("get", ODD)])


def test_a_call_that_was_cut_off_is_shown_as_far_as_it_came() -> None:
    for text in (ONE[:60], ONE[: ONE.index("</tool")]):
        words, calls = said(HERMES, text)
        assert words is None
        assert [name for name, _ in calls] == ["get"]
        assert ODD.startswith(calls[0][1])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=80), st.booleans())
def test_no_cut_changes_what_is_said(cuts: list[int], talk: bool) -> None:
    text, parts = ("Look: " if talk else "") + f"{ONE}\n{ONE}", []
    for cut in cuts:
        parts.append(text[:cut])
        text = text[cut:]
    found = pieces(HERMES, [*parts, text])
    assert "".join(piece.text for piece in found if isinstance(piece, Words)) == ("Look:" if talk else "")
    for index in (0, 1):
        own = [piece for piece in found if isinstance(piece, CallPiece) and piece.index == index]
        assert own[0].name == "get"
        assert own[0].id is not None
        assert all(piece.name is None and piece.id is None for piece in own[1:])
        assert "".join(piece.arguments for piece in own) == ODD


def test_pieces_come_as_soon_as_they_are_certain() -> None:
    parser = ToolParser(HERMES, NAMES)
    assert parser.push("Hello <") == [Words("Hello")]
    assert parser.push("3 <tool_") == [Words(" <3")]
    assert parser.push('call>{"name": "get", "arguments":') == []
    (start, arguments) = parser.push(' {"a')
    assert isinstance(start, CallPiece)
    assert (start.index, start.name, start.arguments) == (0, "get", "")
    assert arguments == CallPiece(0, '{"a')
    assert parser.push('": 1}') == [CallPiece(0, '": 1}')]
    assert parser.push("}</tool_call>") == []
    assert parser.finish() == []


def test_deltas_are_openais() -> None:
    first, second = (piece for piece in pieces(HERMES, [ONE]) if isinstance(piece, CallPiece))
    assert first.delta() == {
        "index": 0,
        "id": first.id,
        "type": "function",
        "function": {"name": "get", "arguments": ""},
    }
    assert second.delta() == {"index": 0, "function": {"arguments": ODD}}
    assert json.loads(ODD)["d"] == "<tool_call>"


@pytest.mark.parametrize(("form", "length"), [(HERMES, 29), (LLAMA, 29), (MISTRAL, 9)])
def test_ids_are_as_templates_want_them(form: Format, length: int) -> None:
    key = "parameters" if form is LLAMA else "arguments"
    _, calls = whole(pieces(form, ["".join(form.opening), call("get", "{}", key), "".join(form.closing)]))
    assert len(calls[0]["id"]) == length
    assert calls[0]["id"].startswith("call_") == (form is not MISTRAL)


def test_the_reason_of_an_end() -> None:
    parser = ToolParser(HERMES, NAMES)
    parser.push("no call")
    assert parser.finish_reason("stop") == "stop"
    parser.push(ONE)
    assert parser.finish_reason("stop") == "tool_calls"
    assert parser.finish_reason("length") == "length"


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("", HERMES),
        ("{{ messages }}", HERMES),
        ("<tool_call>", HERMES),
        ("[TOOL_CALLS]", MISTRAL),
        ("""'"parameters": '""", LLAMA),
        ("""<tool_call> "parameters" """, HERMES),
    ],
)
def test_the_form_that_a_template_teaches(template: str, form: Format) -> None:
    assert format_of(template) is form
