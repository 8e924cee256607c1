"""Tokens to text: characters of several tokens, stop strings across tokens, ends."""

from __future__ import annotations

import json

import numpy as np
import pytest

from intaglio.engine.mask import everything, without
from intaglio.engine.output import SamplingParams
from intaglio.engine.request import Request
from intaglio.engine.sequence import Sequence
from intaglio.errors import IntaglioError, UsageError
from intaglio.models.tokenizer import Tokenizer
from intaglio.types import Array
from tests import tiny_llm

TOKENIZER = Tokenizer.from_files(
    {
        "tokenizer.json": tiny_llm.tokenizer().to_str().encode(),
        "tokenizer_config.json": json.dumps({"eos_token": "<eos>"}).encode(),
    }
)
EOS = TOKENIZER.eos_ids[0]
TEXT = "naïve 🎉漢字 👩‍👩‍👧 end"


def run(tokens: list[int], **settings: object) -> tuple[Request, list[str]]:
    """The request after these tokens were drawn, and the pieces that came out after each."""
    params = SamplingParams(**{"max_tokens": len(tokens), **settings})  # type: ignore[arg-type]
    sequence = Sequence([5, 6], params.sampling(0), 2 + params.max_tokens)
    ends = () if params.ignore_eos else TOKENIZER.eos_ids
    request = Request(0, "", sequence, params, TOKENIZER.stream(), ends, tiny_llm.VOCAB)
    pieces = []
    for token in tokens:
        request.take(token, None)
        pieces.append(request.fresh())
        if request.finished:
            break
    return request, pieces


def test_characters_of_several_tokens_come_whole() -> None:
    request, pieces = run(TOKENIZER.encode(TEXT))
    assert "".join(pieces) == request.text == TEXT
    assert not any("\ufffd" in piece for piece in pieces)
    assert len([piece for piece in pieces if piece]) == len(TEXT)
    assert request.finish_reason == "length"


def test_bytes_that_never_become_a_character_are_not_lost() -> None:
    tokens = TOKENIZER.encode("a🎉")[:-1]
    request, pieces = run(tokens)
    assert request.text == "".join(pieces) == "a\ufffd"


@pytest.mark.parametrize("stop", ["🎉", "漢", "ve 🎉", "👩‍👧", "end"])
def test_a_stop_string_across_tokens_ends_the_text_before_it(stop: str) -> None:
    request, pieces = run(TOKENIZER.encode(TEXT), stop=[stop, "never"])
    assert request.text == "".join(pieces) == TEXT.split(stop)[0]
    assert (request.finish_reason, request.stop_reason) == ("stop", stop)
    assert TOKENIZER.decode(request.sequence.output) == TEXT.split(stop)[0] + stop


def test_what_looked_like_a_stop_string_is_shown_in_the_end() -> None:
    request, pieces = run(TOKENIZER.encode("so EN"), stop="END")
    assert pieces[:3] == ["s", "o", " "]
    assert pieces[3:] == ["", "EN"]
    assert request.text == "so EN"


def test_eos_ends_unless_it_is_ignored() -> None:
    tokens = [*TOKENIZER.encode("ab"), EOS, *TOKENIZER.encode("cd")]
    request, _ = run(tokens)
    assert (request.text, request.finish_reason, request.stop_reason) == ("ab", "stop", EOS)
    assert request.output().outputs[0].token_ids == tuple(tokens[:3])
    assert run(tokens, ignore_eos=True)[0].text == "abcd"


def test_drafts_end_before_what_cannot_follow() -> None:
    """An end, a forbidden token, a state without a next token; each draw has its mask."""
    end, a, b = EOS, *TOKENIZER.encode("ab")
    request, _ = run([], max_tokens=9)
    assert request.masks([a, b, end, a]) == ([a, b], None)
    only_a = without(everything(tiny_llm.VOCAB), set(range(tiny_llm.VOCAB)) - {a})

    def after(said: list[int]) -> Array | None:
        return [only_a, None, np.zeros_like(only_a)][len(said)] if len(said) < 3 else only_a

    request, _ = run([], max_tokens=9, token_mask=after)
    assert request.masks([b, a])[0] == []
    drafts, masks = request.masks([a, b, a, a])
    assert drafts == [a]
    assert masks is not None
    np.testing.assert_array_equal(masks, [only_a, everything(tiny_llm.VOCAB)])
    request.take(a, None)
    request.take(b, None)
    with pytest.raises(IntaglioError, match="request 0: its mask allows no token after 2 tokens"):
        request.masks([])


@pytest.mark.parametrize(
    "wrong", [np.ones(8, np.uint32), np.ones(9, np.uint8), np.ones((1, 9), np.uint32)], ids=repr
)
def test_masks_of_another_kind_are_refused(wrong: Array) -> None:
    request, _ = run([], max_tokens=1, token_mask=lambda said: wrong)
    with pytest.raises(IntaglioError, match="expected 9 words of 32 bits"):
        request.masks([])


def test_masks_of_int32_are_llguidances() -> None:
    request, _ = run([], max_tokens=1, token_mask=lambda said: np.full(9, -1, np.int32))
    _, masks = request.masks([])
    assert masks is not None
    assert (masks.dtype, masks.tolist()) == (np.uint32, [[2**32 - 1] * 9])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 2.0}, "min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"repetition_penalty": 1e-60}, "repetition_penalty"),  # 0 in single precision
        ({"top_p": 1e-60}, "top_p"),
        ({"temperature": 1e60}, "temperature"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": float("nan")}, "frequency_penalty"),
        ({"logit_bias": {5: 101.0}}, "logit_bias"),
        ({"logit_bias": {-5: 1.0}}, "logit_bias"),
        ({"logprobs": 21}, r"logprobs is 21, it must be in 0\.\.20"),
        ({"max_tokens": 4, "min_tokens": 5}, r"min_tokens is 5, it must be in 0\.\.4"),
        ({"seed": -1}, "seed"),
        ({"stop": ["a", ""]}, "empty stop string"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        SamplingParams(**settings)  # type: ignore[arg-type]
