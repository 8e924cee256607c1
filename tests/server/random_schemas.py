"""Random JSON schemas: most of what llguidance can keep to, and some of what it cannot."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]

NAMES = st.sampled_from(["a", "b", "ab", "a b", "é", "", '"', "\\", "x\ny", "🎉"])
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=5)
SMALL = st.integers(-200, 200) | st.integers(-4000, 4000).map(lambda n: n / 8) | st.floats(-1e4, 1e4)
LARGE = st.sampled_from([2**53, -(2**53), 2**53 + 1, 10**30, 1e22, 1e-300])
SIZES = st.integers(0, 4)
FEW = st.sampled_from([0, 1, 1, 2])
PATTERNS = st.sampled_from(
    ["a", "^a", "c$", "^[a-c]+$", "^(ab|c)*$", "[^x]{2}", ".", "^x-", "^a.?b$", "(a+)+$", "^\\d{3}$", "a|^b$"]
)
FORMATS = st.sampled_from(
    ["date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri", "regex"]
)
CONSTANTS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), SMALL, SMALL, TEXTS, NAMES, LARGE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


def keywords(required: Schema, optional: Schema) -> st.SearchStrategy[Schema]:
    return st.fixed_dictionaries(required, optional=optional)


LEAVES = st.one_of(
    keywords({"type": st.just("string")}, {"minLength": SIZES, "maxLength": SIZES}),
    keywords({"type": st.just("string"), "pattern": PATTERNS}, {"minLength": SIZES, "maxLength": st.just(9)}),
    keywords({"type": st.just("string"), "format": FORMATS}, {}),
    keywords(
        {"type": st.sampled_from(["integer", "number"])},
        {
            "minimum": SMALL,
            "maximum": SMALL,
            "exclusiveMinimum": SMALL,
            "exclusiveMaximum": SMALL,
            "multipleOf": st.integers(1, 30) | st.sampled_from([0.5, 0.1, 2.0]),
        },
    ),
    keywords({"type": st.sampled_from(["null", "boolean", "number", ["string", "null"], ["integer"]])}, {}),
    keywords({"enum": st.lists(CONSTANTS, min_size=1, max_size=4)}, {}),
    keywords({"const": CONSTANTS}, {}),
    keywords({}, {"minLength": SIZES, "minimum": SMALL, "title": TEXTS, "description": TEXTS}),
    st.builds(dict),
)


def _branch(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    several = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(NAMES, inner, max_size=4)
    counts = {"minProperties": FEW, "maxProperties": SIZES}
    return st.one_of(
        keywords({"type": st.just("array")}, {"items": inner, "minItems": SIZES, "maxItems": SIZES}),
        keywords({"prefixItems": several}, {"type": st.just("array"), "items": inner, "minItems": SIZES}),
        keywords(
            {"type": st.just("object"), "properties": named},
            {"required": st.lists(NAMES, max_size=3, unique=True), "additionalProperties": inner},
        ),
        keywords({"type": st.just("object"), "additionalProperties": inner}, counts),
        keywords({"type": st.just("object"), "properties": named}, counts),
        keywords(
            {"patternProperties": st.dictionaries(PATTERNS, inner, min_size=1, max_size=2)},
            {"properties": named, "additionalProperties": inner},
        ),
        keywords({"anyOf": several}, {"type": st.sampled_from(["object", "string", "array"])}),
        keywords({"allOf": several}, {"minLength": SIZES}),
        keywords({"oneOf": several}, {}),
        keywords({}, {"uniqueItems": st.booleans(), "contains": inner, "not": inner, "title": TEXTS}),
    )


def _with_definitions(schemas: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    """`schemas` among which some refer to each other, in circles too."""
    references = st.sampled_from("ab").map(lambda name: {"$ref": f"#/$defs/{name}"})
    within = st.recursive(LEAVES | references, _branch, max_leaves=6)
    return st.builds(
        lambda top, a, b: {**top, "$defs": {"a": a, "b": b}}, st.one_of(within, schemas), within, within
    )


PLAIN = st.recursive(LEAVES | st.booleans(), _branch, max_leaves=10).filter(lambda s: isinstance(s, dict))
OLD = st.lists(PLAIN, min_size=1, max_size=3).flatmap(
    lambda items: keywords(
        {"$schema": st.just("http://json-schema.org/draft-07/schema#"), "items": st.just(items)},
        {"additionalItems": PLAIN | st.booleans(), "type": st.just("array"), "minItems": SIZES},
    )
)
SCHEMAS = PLAIN | PLAIN | _with_definitions(PLAIN) | OLD
