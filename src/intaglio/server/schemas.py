"""JSON schemas from strangers: what answers could break, or a compiler could break at, is refused.

llguidance compiles a schema by recursion in native code, where a stack that overflows ends the process: hence
the bound on what references reach. What it does not implement it refuses itself; the refusals here are those
that it does not make.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from intaglio.errors import UsageError
from intaglio.server.bounds import Bounds, kind
from intaglio.server.pattern_pairs import pairs
from intaglio.server.schema_rewrite import rewritten
from intaglio.server.schema_tree import Schema, bottom_up, target

EXACT = 2**53  # whole numbers up to here are exact for every program
MOST_MULTIPLE = 10_000  # states of the automaton that divides
MOST_PAIRS = 1024  # of patterns: two milliseconds each
MOST_PROPERTIES = 500  # of one object: the parser's items in a row are three times these
MOST_REACH = 1000  # levels of all schemas that references name: up to 16 kB of native stack each
UNSPEAKABLE = {chr(code) for code in (*range(32), 127)} - set("\b\t\n\f\r")  # without \u escapes


@dataclass
class Budget:
    """What the schemas of one request may cost together."""

    bounds: Bounds
    schemas: int
    pairs: int = MOST_PAIRS

    def spend(self, schemas: int, pairs: int, where: str) -> None:
        self.schemas, self.pairs = self.schemas - schemas, self.pairs - pairs
        if self.schemas < 0:
            raise UsageError(f"{where} is too large: it holds {schemas} schemas, {-self.schemas} too many")
        if self.pairs < 0:
            raise UsageError(f"{where} is too complex: {MOST_PAIRS} pairs of patterns may hold at once")


def checked(schema: Any, where: str, budget: Budget) -> Schema:
    """What says the same as `schema`, safe to compile. `where` names it in a UsageError."""
    bounds = budget.bounds
    if not isinstance(schema, dict):
        raise UsageError(f"{where} is {kind(schema)}, expected an object")
    bounds.spelled(schema, where)
    every = list(bottom_up(schema, where))
    for each in every:
        if fault := _fault(each, bounds):
            raise UsageError(f"{where} has {fault}")
        if each is not schema and "$id" in each:
            raise UsageError(f"{where} has an $id inside, which moves what its references mean: leave it out")
    if _reach(every, schema, where, bounds) > MOST_REACH:
        raise UsageError(f"{where} refers to too much: use fewer or flatter definitions")
    if math.lcm(*(int(each.get("multipleOf", 1)) for each in every)) > MOST_MULTIPLE:
        raise UsageError(f"{where} has multipleOf whose common multiple is above {MOST_MULTIPLE}")
    budget.spend(len(every), pairs(every, schema, where), where)
    return rewritten(schema, every, where)


def _reach(every: Iterable[Schema], root: Schema, where: str, bounds: Bounds) -> int:
    """Levels of the schema and of all that its references name, as if each led to the next."""
    targets = {id(found): found for each in every for found in target(root, each, where)}
    return sum(1 + bounds.depth_of(found, where) for found in (root, *targets.values()))


def _fault(schema: Schema, bounds: Bounds) -> str | None:
    """What is wrong with this one, those inside aside."""
    constants = list(_leaves([schema.get("const"), schema.get("enum")]))
    limits = [schema.get(key) for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")]
    patterns = [schema.get("pattern"), *_object(schema.get("patternProperties"))]
    long = [each for each in patterns if isinstance(each, str) and len(each) > bounds.pattern]
    faults = {
        f"a number beyond {EXACT}, which is exact for few programs": any(map(_inexact, limits + constants)),
        "a control character in a constant, which no answer could spell": any(map(_unspeakable, constants)),
        f"more than {MOST_PROPERTIES} properties in one object": len(_object(schema.get("properties")))
        > MOST_PROPERTIES,
        f"a pattern of more than {bounds.pattern} characters": bool(long),
        # validators divide in floating point, where 0.3 is no multiple of 0.1
        "a multipleOf that is not a whole number above 0": not _whole(schema.get("multipleOf", 1)),
        # names that are not listed may come twice, and then count once
        "minProperties of two or more beyond those required: name them in required": _free(schema) > 1,
        "additionalItems beside prefixItems, which belong to different drafts": "additionalItems" in schema
        and "prefixItems" in schema,
    }
    return next((fault for fault, found in faults.items() if found), None)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _leaves(value: Any) -> Iterator[Any]:
    """Texts, numbers and the like in a constant."""
    match value:
        case dict():
            yield from chain.from_iterable(map(_leaves, value.values()))
        case list():
            yield from chain.from_iterable(map(_leaves, value))
        case _:
            yield value


def _inexact(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) > EXACT


def _unspeakable(value: Any) -> bool:
    return isinstance(value, str) and not UNSPEAKABLE.isdisjoint(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int | float) and value >= 1 and value == int(value)


def _free(schema: Schema) -> int:
    """Properties of names that it does not tell which an object must have."""
    least, required = schema.get("minProperties"), schema.get("required")
    names = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    return least - len(names) if isinstance(least, int) else 0
