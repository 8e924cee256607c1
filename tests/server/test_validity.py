"""Every finished answer is valid, whatever the schema: random answers to random schemas."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from intaglio.errors import UsageError
from tests.server.answers import grammars, random_answer, schema_grammar, tokenizer
from tests.server.random_schemas import SCHEMAS, Schema


def validator(schema: Schema) -> Any:
    """Of the draft that it names."""
    return jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)(schema)


def check(schemas: int, *, seed: int) -> Counter[str]:
    """Random answers to so many random schemas: what came of them, none of it invalid."""
    found: Counter[str] = Counter()

    @settings(
        max_examples=schemas,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(schema=SCHEMAS, first=st.integers(seed, seed + 999))
    def answers(schema: Schema, first: int) -> None:
        validator(schema).check_schema(schema)
        try:
            compiled = grammars(tokenizer()).compiled(schema_grammar(schema))
        except UsageError:
            found["refused"] += 1
            return
        found["kept to"] += 1
        for number in range(3):
            tokens, whole = random_answer(compiled.mask(), first + number)
            found["finished" if whole else "cut off"] += 1
            if whole:
                validator(schema).validate(json.loads(tokenizer().decode(tokens)))

    answers()
    return found


def test_every_finished_answer_satisfies_its_schema() -> None:
    found = check(120, seed=0)
    assert found["kept to"] > 40
    assert found["finished"] > found["kept to"]


@pytest.mark.claims
def test_every_finished_answer_to_1000_random_schemas_is_valid() -> None:
    found = check(1000, seed=1)
    assert found["kept to"] > 450
    assert found["finished"] > 2 * found["kept to"]
