"""Schemas from strangers: what is taken says the same to llguidance, the rest is refused in a sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.errors import UsageError
from tests.server.answers import accepts, mask, schema_grammar, tokens_of
from tests.server.random_schemas import CONSTANTS, Schema


def test_remarks_in_a_schema_are_no_wishes() -> None:
    said = {"type": "string", "format": "password", "title": "T", "default": 3, "examples": [1], "x-y": {}}
    assert accepts(schema_grammar(said), '"any"')
    assert accepts(schema_grammar({"type": "array", "uniqueItems": False, "maxItems": 2}), "[1,1]")
    data = {"format": "password", "uniqueItems": False}
    assert accepts(schema_grammar({"const": data}), json.dumps(data))


def test_one_of_schemas_that_exclude_each_other() -> None:
    def pet(name: str) -> Schema:
        return {"type": "object", "properties": {"kind": {"const": name}}, "required": ["kind"]}

    union = {"oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}, {"type": "null"}]}
    grammar = schema_grammar({**union, "$defs": {"cat": pet("cat"), "dog": pet("dog")}})
    assert all(accepts(grammar, text) for text in ['{"kind":"cat"}', '{"kind":"dog","x":1}', "null"])
    assert not accepts(grammar, '{"kind":"cow"}')
    untyped = [{key: value for key, value in pet(name).items() if key != "type"} for name in ("cat", "dog")]
    for alike in ({**union, "$defs": {"cat": pet("cat"), "dog": pet("cat")}}, {"oneOf": untyped}):
        with pytest.raises(UsageError, match="oneOf"):
            mask(schema_grammar(alike))


def nested(depth: int) -> Schema:
    schema: Schema = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


def chained(count: int) -> Schema:
    """Definitions that refer each to the next."""
    chain = {f"d{n}": {"items": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(count)}
    return {"$defs": {**chain, f"d{count}": {}}, "$ref": "#/$defs/d0"}


PATTERNS = {"anyOf": [{"type": "string", "pattern": f"([a-z]+)x.{{10,20}}{n}"} for n in range(40)]}
SQUARED = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (3, "a number, expected an object"),
        (True, "a boolean, expected an object"),
        ({"uniqueItems": True}, 'Unimplemented keys: ["uniqueItems"]'),
        ({"type": "nothing"}, "Invalid type: nothing"),
        ({"enum": []}, "anyOf is empty"),
        ({"properties": 3}, "properties must be an object"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"type": "string", "pattern": "^\x01$"}, "no text satisfies it"),
        ({"$ref": "http://example.org/x"}, "only refer to its own parts"),
        ({"$ref": "file:///etc/passwd"}, "only refer to its own parts"),
        ({"$ref": "other#/x"}, "only refer to its own parts"),
        ({"$ref": "#/$defs/x"}, "names no schema"),
        ({"$ref": "#/allOf/" + "9" * 5000, "allOf": [{}]}, "names no schema"),
        ({"items": {"$id": "http://example.org/x"}}, "has an $id inside"),
        ({"const": 2**53 + 1}, "beyond 9007199254740992"),
        ({"enum": [{"a": [1e30]}]}, "beyond 9007199254740992"),
        ({"minimum": -(10**400)}, "beyond 9007199254740992"),
        ({"const": float("nan")}, "a number or a character that JSON does not have"),
        ({"const": "\ud800"}, "a number or a character that JSON does not have"),
        ({"const": "\x01"}, "control character"),
        ({"multipleOf": 0.1}, "not a whole number"),
        ({"multipleOf": 0}, "not a whole number"),
        (
            {"properties": {"a": {"multipleOf": 97}, "b": {"multipleOf": 1009}}},
            "common multiple is above 10000",
        ),
        ({"type": "object", "minProperties": 2}, "minProperties of two"),
        ({"prefixItems": [{}], "additionalItems": False}, "different drafts"),
        ({"pattern": "a" * 2049}, "a pattern of more than 2048"),
        ({"properties": {f"p{n}": {} for n in range(501)}}, "more than 500 properties"),
        ({"anyOf": [{"title": "x"} for _ in range(1001)]}, "too large: it holds 1002 schemas"),
        ({"description": "x" * 70_000}, "has 70018 bytes, at most 65536"),
        (nested(33), "nested deeper than 32"),
        (nested(100_000), "nested deeper than 32"),
        (chained(400), "refers to too much"),
        ({"allOf": [PATTERNS, PATTERNS]}, "too complex: 1024 pairs"),
        ({"properties": {"a": PATTERNS}, "allOf": [{"properties": {"a": PATTERNS}}]}, "too complex"),
        ({"patternProperties": {f"^{n}x": {} for n in range(60)}}, "too complex"),
        ({"$defs": {**SQUARED, "d60": PATTERNS}, "$ref": "#/$defs/d0"}, "too complex"),
    ],
)
def test_a_schema_that_is_refused(schema: Any, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        mask(schema_grammar(schema))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@given(CONSTANTS | st.dictionaries(st.sampled_from(["type", "$ref", "items", "anyOf", "enum"]), CONSTANTS))
@settings(deadline=None)
def test_whatever_is_no_schema_is_refused_or_kept_to(nonsense: Any) -> None:
    try:
        follow = mask(schema_grammar(nonsense))
    except UsageError:
        return
    assert tokens_of(follow([]))


def test_definitions_as_deep_as_is_taken_do_not_end_the_process() -> None:
    assert tokens_of(mask(schema_grammar(chained(300)))([]))
