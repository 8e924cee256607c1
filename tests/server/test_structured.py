"""Structured output as clients ask for it: what it lets through, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from intaglio.errors import UsageError
from intaglio.server.structured import response_format, wanted
from tests.server.answers import BOUNDS, LIST, PERSON, accepts, mask, schema_grammar, vllm


def test_the_kinds_of_response_format() -> None:
    assert response_format({"type": "text"}, BOUNDS) is None
    anything = response_format({"type": "json_object"}, BOUNDS)
    assert accepts(anything, '{"a":[1,{"b":null}]}')
    assert not accepts(anything, "[1]")
    assert wanted({"response_format": {"type": "json_object"}}, BOUNDS) == anything
    assert wanted({"structured_outputs": {"json": {"type": "object"}}}, BOUNDS) == anything


@pytest.mark.parametrize("spaced", ['{"name":"Bo","age":3}', '{"name": "Bo", "age": 3}'])
def test_json_may_have_a_blank_after_commas_and_colons(spaced: str) -> None:
    assert accepts(schema_grammar(PERSON), spaced)


@pytest.mark.parametrize(
    "wrong",
    [
        '{ "name": "Bo"}',
        '{"name":  "Bo"}',
        '{"name":"Bo",  "age":1}',
        '{"name": "Bo" }',
        '{\n"name": "Bo"}',
        '{"name": "Bo"} ',
    ],
)
def test_no_answer_is_filled_with_blanks(wrong: str) -> None:
    assert not accepts(schema_grammar(PERSON), wrong)


def test_a_client_cannot_ask_for_other_blanks() -> None:
    loose = {**PERSON, "x-guidance": {"whitespace_flexible": True, "lenient": True}}
    assert not accepts(schema_grammar(loose), '{  "name": "Bo"}')
    with pytest.raises(UsageError, match="contains"):
        mask(schema_grammar({"contains": {}, "x-guidance": {"lenient": True}}))


def test_a_key_is_spelled_in_one_way() -> None:
    """Else an answer could give a known property again, as one that is not known."""
    grammar = schema_grammar({"type": "object", "properties": {"a": {"type": "integer"}}})
    assert accepts(grammar, '{"b":"x"}')
    assert not accepts(grammar, '{"\\u0061":"x"}')


@pytest.mark.parametrize(
    ("given", "good", "bad"),
    [
        ({"regex": r"\d{3}-(a|b)+"}, ["123-ab", "000-a"], ["12-a", "123-", "123-c", "x123-a"]),
        ({"choice": ["yes", "no", "no!"]}, ["yes", "no", "no!"], ["", "n", "maybe", "yesno"]),
        (
            {"choice": ['a"b', "c\\d", "e\nf", "g/h", "é🎉", "\x01", "ab"]},
            ['a"b', "e\nf", "é🎉", "\x01"],
            ["é"],
        ),
        ({"grammar": 'start: n ("+" n)*\nn: /[0-9]+/'}, ["1", "1+22"], ["", "+", "1+"]),
        ({"json": LIST}, ['["a",3]'], ["[]", '["c"]']),
        ({"json": json.dumps(LIST)}, ['["a", 3]'], ["[]"]),
    ],
)
def test_the_kinds_of_structured_outputs(given: dict[str, Any], good: list[str], bad: list[str]) -> None:
    grammar = vllm(**given)
    assert all(accepts(grammar, text) for text in good)
    assert not any(accepts(grammar, text) for text in bad)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "has nothing, expected one of"),
        ({"regex": "a", "choice": ["b"]}, "expected one of"),
        ({"structural_tag": "x"}, "expected one of"),
        ({"regex": 3}, "regex is a number, expected a string"),
        ({"regex": "a" * 2049}, "at most 2048"),
        ({"regex": "(" * 2000}, "invalid regex"),
        ({"regex": "\ud800"}, "not valid Unicode"),
        ({"choice": []}, "a list of one string at least"),
        ({"choice": "yes"}, "is a string, expected a list"),
        ({"choice": ["yes", 3]}, "choice[1] is a number"),
        ({"choice": ["x"] * 1001}, "at most 1000"),
        ({"choice": ["x" * 16_000] * 5}, "at most 65536"),
        ({"grammar": "start: (" * 3}, "cannot be kept to"),
        ({"grammar": "start: " + "(" * 3000}, "nested"),
        ({"grammar": "a" * 16_385}, "at most 16384"),
        ({"grammar": "\n" * 300}, "more than 256 lines"),
        ({"grammar": '{"grammars":[{"json_schema":{}}]}'}, "cannot be kept to"),
        ({"json": "{"}, "not valid JSON"),
        ({"json": "[" * 50_000}, "not valid JSON"),
        ({"json": "x" * 70_000}, "at most 65536"),
        ({"json": 3}, "a number, expected an object"),
    ],
)
def test_other_wishes_that_are_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        mask(vllm(**given))
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"type": "xml"}, "response_format.type is 'xml', expected text"),
        ({}, "response_format.type is None"),
        ({"type": "json_schema"}, "json_schema.schema is missing"),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, "json_schema.schema is missing"),
    ],
)
def test_a_response_format_that_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        response_format(given, BOUNDS)
    assert reason in str(caught.value)
