"""Masks: functions of what was said, of any tokenizer's size, and stopped where they grow slow."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intaglio.engine.mask import everything, words_of
from intaglio.errors import IntaglioError, UsageError
from intaglio.models.tokenizer import Tokenizer
from intaglio.server import grammars as grammars_module
from intaglio.server.grammars import Grammars
from intaglio.server.structured import Grammar
from tests import tiny_llm
from tests.server.answers import END, grammars, mask, schema_grammar, tokenizer, tokens_of, vllm
from tests.server.random_schemas import SCHEMAS, Schema


def repeat(grammar: Grammar, letter: list[int], times: int) -> None:
    follow = mask(grammar)
    for length in range(times):
        follow(letter * length)


@pytest.mark.parametrize(
    "given",
    [
        {"regex": "((a{1,1000}){1,1000}){1,1000}"},
        {"grammar": 'start: a\na: a a | "a" | ""'},
        {"grammar": "start: r0\n" + "\n".join(f"r{n}: r{n + 1}{{1,999}}" for n in range(50)) + '\nr50: "a"'},
    ],
)
def test_a_grammar_that_grows_too_complex_ends_its_request(given: dict[str, Any]) -> None:
    letter = tokenizer().encode("a", special=False)
    began = time.perf_counter()
    with pytest.raises(UsageError, match="cannot be kept to"):
        repeat(vllm(**given), letter, 2000)
    assert time.perf_counter() - began < 60  # a second on an idle machine; unbounded ones take minutes


def test_a_grammar_that_failed_is_compiled_anew() -> None:
    """Copies share what llguidance learns of a grammar, its failure too."""
    grammar, letter = vllm(regex="((a{1,100}){1,100}){1,100}"), tokenizer().encode("a", special=False)
    compiled = grammars(tokenizer()).compiled(grammar)
    with pytest.raises(UsageError, match="any further"):
        repeat(grammar, letter, 100)
    with pytest.raises(UsageError):
        compiled.mask()([])
    assert tokens_of(mask(grammar)([])) == letter


def test_few_grammars_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammars_module, "KEPT", 2)
    several = Grammars(tokenizer(), tiny_llm.VOCAB)
    one, two, three = (vllm(choice=[text]) for text in ("1", "2", "3"))
    first = several.compiled(one)
    several.compiled(two)
    assert several.compiled(one) is first
    several.compiled(three)  # the second is the one that was asked for longest ago
    assert several.compiled(one) is first
    assert len(several._kept) == 2


def walk(grammar: Grammar, seed: int, steps: int = 40) -> None:
    """Forth and back and into wrong drafts: every mask is that of one who went straight."""
    follow, rng, said = mask(grammar), np.random.default_rng(seed), list[int]()
    for _ in range(steps):
        words = follow(said)
        assert np.array_equal(words, mask(grammar)(said))
        if rng.random() < 0.2:
            said = said[: rng.integers(len(said) + 1)]
        elif rng.random() < 0.2:
            wrong = [*said, *rng.integers(tiny_llm.VOCAB, size=3).tolist()]
            assert np.array_equal(follow(wrong), mask(grammar)(wrong))
        if going_on := [token for token in tokens_of(words) if token != END]:
            said = [*said, int(rng.choice(going_on))]


@given(schema=SCHEMAS, seed=st.integers(0, 999))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_masks_depend_on_what_was_said_alone(schema: Schema, seed: int) -> None:
    try:
        grammar = schema_grammar(schema)
        mask(grammar)
    except UsageError:
        return
    walk(grammar, seed)


@pytest.mark.parametrize(
    "given",
    [
        {"regex": "(ab|a)*c?"},
        {"choice": ["a", "ab", "abc", "b"]},
        {"grammar": "start: t*\nt[max_tokens=3]: /[ab]+c/"},  # llguidance cannot go back in this one
    ],
)
def test_masks_of_texts_depend_on_what_was_said_alone(given: dict[str, Any]) -> None:
    for seed in range(5):
        walk(vllm(**given), seed)


def test_after_an_end_only_an_end() -> None:
    follow = mask(vllm(choice=["a", "ab"]))
    (letter,) = tokenizer().encode("a", special=False)
    assert tokens_of(follow([letter])) == sorted([END, *tokenizer().encode("b", special=False)])
    assert tokens_of(follow([letter, END])) == [END]
    assert tokens_of(follow([letter, END, END])) == [END]
    assert tokens_of(follow([])) == [letter]


def test_what_is_not_allowed_is_followed_by_nothing() -> None:
    follow = mask(vllm(choice=["ab"]))
    assert not follow(tokenizer().encode("ax", special=False)).any()
    assert tokens_of(follow(tokenizer().encode("a", special=False))) == tokenizer().encode("b", special=False)


@pytest.mark.parametrize("vocab", [tiny_llm.VOCAB + 100, 200])
def test_a_model_of_more_or_fewer_tokens_than_its_tokenizer(vocab: int) -> None:
    words = Grammars(tokenizer(), vocab).compiled(vllm(regex="(?s:.*)")).mask()([])
    assert words.shape == (words_of(vocab),)
    assert not (words & ~everything(vocab)).any()
    assert END in tokens_of(words)


def test_every_end_of_the_model_may_end_an_answer() -> None:
    two = Grammars(Tokenizer(tiny_llm.tokenizer(), [END, 0, 9999], None, {}), tiny_llm.VOCAB)
    assert tokens_of(two.compiled(vllm(choice=[""])).mask()([])) == [0, END]


def test_a_model_without_an_end_cannot_be_held_to_a_form() -> None:
    endless = Grammars(Tokenizer(tiny_llm.tokenizer(), [], None, {}), tiny_llm.VOCAB)
    with pytest.raises(UsageError, match="no token that ends a text"):
        endless.compiled(vllm(choice=["a"]))


def test_a_tokenizer_that_llguidance_breaks_at_is_named() -> None:
    """A panic of native code is no exception that a server would answer with."""
    spelled = json.loads(tiny_llm.tokenizer().to_str())
    spelled["added_tokens"].append(
        {**spelled["added_tokens"][0], "id": 700, "content": "far", "special": False}
    )
    spelled["model"]["vocab"]["far"] = 700  # of 260 tokens
    words = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(spelled)), [END], None, {})
    with pytest.raises(IntaglioError, match="llguidance failed"):
        Grammars(words, 800).compiled(vllm(choice=["a"]))
