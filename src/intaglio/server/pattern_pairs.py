"""Pairs of patterns: what a schema costs to compile, told before it is compiled.

Each alternative of one schema is intersected with each of another that holds at the same place, and for two
patterns llguidance spends up to two milliseconds to tell whether any text satisfies both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from intaglio.server.schema_tree import Schema, members, schemas, target

MANY = 10**6  # no number grows beyond it: squares of squares would fill the memory


def pairs(bottom_up: Iterable[Schema], root: Schema, where: str) -> int:
    """How many of them the schemas of `root` may make."""
    weights: dict[int, int] = {}  # texts each describes: sums over what stands side by side, else products
    total = 0

    def weigh(several: Iterable[Schema]) -> int:
        return sum(weights.get(id(schema), 1) for schema in several)

    for schema in bottom_up:
        names, constants = _size(schema.get("patternProperties")), _size(schema.get("enum"))
        own = ("pattern" in schema) + ("format" in schema) + names + weigh(members(schema))
        together: list[Iterable[Schema]] = [schemas(schema.get(keyword)) for keyword in ("anyOf", "oneOf")]
        together += [[part] for part in schemas(schema.get("allOf"))]
        together += [schemas(target(root, schema, where))]
        parts = [part for part in (own, constants, *map(weigh, together)) if part]
        product = min(math.prod(parts), MANY) if parts else 0
        weights[id(schema)] = product
        total += names * names // 2  # those must be disjoint
        total += product if len(parts) > 1 else 0
    return total


def _size(given: object) -> int:
    return len(given) if isinstance(given, dict | list) else 0
