"""Where schemas stand in a schema, and what its references name. Nothing here recurses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any
from urllib.parse import unquote

from intaglio.errors import UsageError
from intaglio.models.json_text import shown

Schema = Mapping[str, Any]


def bottom_up(root: Schema, where: str) -> Iterator[Schema]:
    """Each schema in it once, circles aside after those it is made of; wherever references find them."""
    seen, path = {id(root)}, [(root, _below(root, root, where))]
    while path:
        schema, rest = path[-1]
        inner = next((each for each in rest if id(each) not in seen), None)
        if inner is None:
            path.pop()
            yield schema
        else:
            seen.add(id(inner))
            path.append((inner, _below(root, inner, where)))


def members(schema: Schema) -> Iterator[Schema]:
    """Schemas of the values inside what `schema` describes."""
    for keyword in ("items", "additionalItems", "additionalProperties"):
        yield from schemas([schema.get(keyword)])
    for keyword in ("items", "prefixItems"):
        yield from schemas(schema.get(keyword))
    for keyword in ("properties", "patternProperties"):
        yield from schemas(_values(schema.get(keyword)))


def schemas(given: Any) -> Iterator[Schema]:
    """Those of a list that are objects; of anything else none."""
    yield from (each for each in given if isinstance(each, dict)) if isinstance(given, list) else ()


def target(root: Schema, schema: Schema, where: str) -> list[Any]:
    """What the $ref of `schema` names, which must be in `root`: one schema, or none without a $ref."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return []
    first, *parts = unquote(reference).split("/")
    if first != "#":
        raise UsageError(f"{where} has the $ref {shown(reference)}: it can only refer to its own parts, #/…")
    found: Any = root
    for part in parts:
        found = _step(found, part.replace("~1", "/").replace("~0", "~"))
    if not isinstance(found, dict | bool):
        raise UsageError(f"{where} has the $ref {shown(reference)}, which names no schema in it")
    return [found]


def _below(root: Schema, schema: Schema, where: str) -> Iterator[Schema]:
    applied = (schemas(schema.get(keyword)) for keyword in ("allOf", "anyOf", "oneOf"))
    defined = (schemas(_values(schema.get(keyword))) for keyword in ("$defs", "definitions"))
    found = schemas(target(root, schema, where))
    return chain(found, members(schema), *applied, *defined)


def _values(given: Any) -> list[Any]:
    return list(given.values()) if isinstance(given, dict) else []


def _step(value: Any, name: str) -> Any:
    if isinstance(value, list):
        numbers = {str(index): each for index, each in enumerate(value)}
        return numbers.get(name)
    return value.get(name) if isinstance(value, dict) else None
