"""Answers without a model: random ones that a mask allows, and whether a mask allows one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from intaglio.engine.mask import TokenMask, allows
from intaglio.models.tokenizer import Tokenizer
from intaglio.server.bounds import Bounds
from intaglio.server.grammars import Grammars
from intaglio.server.structured import Grammar, response_format, structured_outputs
from tests import tiny_llm

BOUNDS = Bounds()
END = tiny_llm.SPECIAL.index("<eos>")


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}
LIST = {"type": "array", "items": {"enum": ["a", "b", 3]}, "minItems": 1, "maxItems": 5}


@lru_cache
def tokenizer(template: str | None = None, added: tuple[tuple[str, bool], ...] = ()) -> Tokenizer:
    """That of tests/tiny_llm.py; `added`: further tokens, and whether they are control tokens."""
    core = tiny_llm.tokenizer()
    for text, control in added:
        (core.add_special_tokens if control else core.add_tokens)([text])
    return Tokenizer(core, [END], template, {})


@lru_cache
def grammars(words: Tokenizer) -> Grammars:
    return Grammars(words, len(words.vocabulary))


def schema_grammar(schema: Any) -> Grammar:
    """As response_format asks for it."""
    found = response_format({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, BOUNDS)
    assert found is not None
    return found


def vllm(**given: Any) -> Grammar:
    """As structured_outputs asks for it."""
    return structured_outputs(given, BOUNDS)


def mask(grammar: Grammar | None, words: Tokenizer | None = None) -> TokenMask:
    assert grammar is not None
    return grammars(words or tokenizer()).compiled(grammar).mask()


def random_answer(
    follow: TokenMask, seed: int, *, most: int = 400, begin: Sequence[int] = ()
) -> tuple[list[int], bool]:
    """Tokens after those of `begin`, and whether they came to an end.

    Four times of five a token that ends things or that a parser might stumble over, where such are allowed.
    """
    likely = set(tokenizer().encode('ab0195.-eE+\\"}],:nxé', special=False))
    rng, said = random.Random(seed), list(begin)
    while len(said) < most:
        allowed = tokens_of(follow(said))
        assert allowed, "a mask allows nothing"
        chosen = [token for token in allowed if token in likely]
        token = rng.choice(chosen if chosen and rng.random() < 0.8 else allowed)
        if token == END:
            return said, True
        said.append(token)
    return said, False


def tokens_of(words: np.ndarray) -> list[int]:
    """The tokens that a mask allows."""
    return [int(token) for token in np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))]


def accepts(grammar: Grammar | None, text: str, words: Tokenizer | None = None) -> bool:
    """Whether an answer may be `text` and end there."""
    follow, tokens = mask(grammar, words), (words or tokenizer()).encode(text, special=False)
    steps = [allows(follow(tokens[:at]), token) for at, token in enumerate([*tokens, END])]
    return all(steps)
