"""Schemas rewritten into what llguidance takes, where that says the same."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Any

from intaglio.server.schema_tree import Schema, target

FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
TYPES = {"null", "boolean", "number", "string", "array", "object"}


def rewritten(root: Schema, every: Iterable[Schema], where: str) -> Schema:
    """A copy of `root`. `every`: its schemas; what looks like one elsewhere is data and stays as it is."""
    places = {id(schema) for schema in every}

    def copy(value: Any) -> Any:
        if isinstance(value, list):
            return [copy(each) for each in value]
        if not isinstance(value, dict):
            return value
        if id(value) not in places:
            return {name: copy(each) for name, each in value.items()}
        return {
            _renamed(key, value, root, where): copy(each) for key, each in value.items() if _says(key, each)
        }

    copied: Schema = copy(root)
    return copied


def _says(keyword: str, value: Any) -> bool:
    """Whether it asks anything of an answer: by JSON Schema's rules a format may be a mere remark."""
    if keyword == "format" and isinstance(value, str):
        return value in FORMATS
    return not (keyword == "uniqueItems" and value is False)


def _renamed(keyword: str, schema: Schema, root: Schema, where: str) -> str:
    """One of schemas that have no answer in common is any of them."""
    options = schema.get("oneOf")
    if keyword != "oneOf" or "anyOf" in schema or not isinstance(options, list):
        return keyword
    resolved = [_resolved(option, root, where) for option in options]
    return "anyOf" if all(_disjoint(*pair, root, where) for pair in combinations(resolved, 2)) else keyword


def _resolved(schema: Any, root: Schema, where: str) -> Schema:
    """What a schema that is only a reference refers to, at once; of anything else itself."""
    found = target(root, schema, where) if isinstance(schema, dict) else [schema]
    option = found[0] if found else schema
    return option if isinstance(option, dict) else {}


def _disjoint(one: Schema, other: Schema, root: Schema, where: str) -> bool:
    """Whether no value satisfies both, as far as types and required constants tell."""
    kinds = _types(one) & _types(other)
    if not kinds:
        return True
    ours, theirs = (_tags(schema, root, where) for schema in (one, other))
    return kinds == {"object"} and any(ours[name].isdisjoint(theirs[name]) for name in ours.keys() & theirs)


def _types(schema: Schema) -> set[str]:
    given = schema.get("type")
    named = [given] if isinstance(given, str) else given
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        return TYPES
    return {"number" if each == "integer" else each for each in named}


def _tags(schema: Schema, root: Schema, where: str) -> dict[str, set[str]]:
    """Properties that must be there and be one of a few texts: those texts, by the property's name."""
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict) or not isinstance(required, list):
        return {}
    found = {}
    for name in {each for each in required if isinstance(each, str)} & properties.keys():
        tag = _resolved(properties[name], root, where)
        texts = tag.get("enum", [tag.get("const")])
        if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts):
            found[name] = set(texts)
    return found
