"""Structured output: what an answer must look like, as a client writes it, and as a grammar of llguidance."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from intaglio.errors import UsageError
from intaglio.lazy import lazy
from intaglio.models.json_text import shown
from intaglio.server.bounds import Bounds, kind
from intaglio.server.schema_tree import Schema
from intaglio.server.schemas import Budget, checked

llguidance: Any = lazy("llguidance", extra="serve")

MOST_ITEMS = 300  # of a client's own grammar: an ambiguous one then costs 80 ms a token at worst, not 1000

# JSON in one way but for a space after commas and colons: a weak model would fill its answer with blanks.
# Without \u a key cannot be spelled in two ways, of which llguidance would take the second for another key.
SPELLING = {
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
    "json_allowed_escapes": 'nrbtf\\"',
    "coerce_one_of": False,
    "lenient": False,
}


@dataclass(frozen=True)
class Grammar:
    """`text`: JSON that llguidance reads. `items`: of its parser at one place, at most."""

    text: str
    items: int = 2000


def wanted(spec: Mapping[str, Any], bounds: Bounds) -> Grammar | None:
    """From a request's {"response_format": …} or {"structured_outputs": …}; None: any text will do."""
    if "structured_outputs" in spec:
        return structured_outputs(spec["structured_outputs"], bounds)
    return response_format(spec["response_format"], bounds)


def response_format(given: Mapping[str, Any], bounds: Bounds) -> Grammar | None:
    """OpenAI's: {"type": "text" | "json_object" | "json_schema", "json_schema": {"name", "schema"}}."""
    match given.get("type"):
        case "text":
            return None
        case "json_object":
            return of_schema({"type": "object"})
        case "json_schema":
            where = "response_format.json_schema"
            named = given.get("json_schema")
            if not isinstance(named, Mapping) or named.get("schema") is None:
                raise UsageError(f"{where}.schema is missing")
            return of_schema(checked(named["schema"], f"{where}.schema", Budget(bounds, bounds.schemas)))
    raise UsageError(
        f"response_format.type is {shown(given.get('type'))}, expected text, json_object or json_schema"
    )


def structured_outputs(given: Mapping[str, Any], bounds: Bounds) -> Grammar:
    """vLLM's: exactly one of {"json": schema, "regex": text, "choice": [text], "grammar": Lark's text}."""
    chosen = {name: value for name, value in given.items() if value is not None}
    if len(chosen) != 1 or not chosen.keys() <= _KINDS.keys():
        raise UsageError(
            f"structured_outputs has {sorted(chosen) or 'nothing'}, expected one of {list(_KINDS)}"
        )
    ((name, value),) = chosen.items()
    return _KINDS[name](value, f"structured_outputs.{name}", bounds)


def of_schema(schema: Schema) -> Grammar:
    """JSON text that satisfies a checked schema."""
    return Grammar(_grammars(json_schema=spelt(schema)))


def of_lark(text: str, items: int = Grammar.items) -> Grammar:
    """Text of a grammar in llguidance's form of Lark."""
    return Grammar(_grammars(lark_grammar=text), items)


def with_part(grammar: Grammar, name: str, part: Grammar) -> Grammar:
    """`grammar`, whose text refers to `part` as @name."""
    (whole,), (named,) = (json.loads(each.text)["grammars"] for each in (grammar, part))
    text = json.dumps({"grammars": [whole, {**named, "name": name}]}, ensure_ascii=False)
    return Grammar(text, min(grammar.items, part.items))


def spelt(schema: Schema) -> Schema:
    """A checked schema that tells llguidance how its JSON is to be written."""
    return {**schema, "x-guidance": SPELLING}


def _grammars(**one: Any) -> str:
    return json.dumps({"grammars": [one]}, ensure_ascii=False)


def _json(value: Any, where: str, bounds: Bounds) -> Grammar:
    if isinstance(value, str):
        text = _text(value, where, bounds.bytes)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise UsageError(f"{where} is not valid JSON") from None
    return of_schema(checked(value, where, Budget(bounds, bounds.schemas)))


def _regex(value: Any, where: str, bounds: Bounds) -> Grammar:
    return Grammar(llguidance.LLMatcher.grammar_from_regex(_text(value, where, bounds.pattern)))


def _choice(value: Any, where: str, bounds: Bounds) -> Grammar:
    if not isinstance(value, list) or not value:
        raise UsageError(f"{where} is {kind(value)}, expected a list of one string at least")
    if len(value) > bounds.choices:
        raise UsageError(f"{where} has {len(value)} strings, at most {bounds.choices} are taken")
    listed = [_text(each, f"{where}[{index}]", bounds.text) for index, each in enumerate(value)]
    bounds.spelled(listed, where)
    # in capitals: one lexeme, not a rule for each
    return of_lark("start: CHOICE\nCHOICE: " + " | ".join(map(quoted, listed)))


def _lark(value: Any, where: str, bounds: Bounds) -> Grammar:
    text = _text(value, where, bounds.text)
    if len(text.splitlines()) > bounds.lines:
        raise UsageError(f"{where} has more than {bounds.lines} lines")
    return of_lark(text, MOST_ITEMS)


def quoted(text: str) -> str:
    """A text as Lark writes it."""
    return json.dumps(text, ensure_ascii=False)


def _text(value: Any, where: str, most: int) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{where} is {kind(value)}, expected a string")
    if len(value) > most:
        raise UsageError(f"{where} has {len(value)} characters, at most {most} are taken")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{where} is not valid Unicode at character {error.start}") from None
    return value


_KINDS: dict[str, Callable[[Any, str, Bounds], Grammar]] = {
    "json": _json,
    "regex": _regex,
    "choice": _choice,
    "grammar": _lark,
}
