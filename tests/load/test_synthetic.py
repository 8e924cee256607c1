"""Prompts are as long as asked, as the server counts; share what they are to share; repeat for a seed."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from intaglio.errors import UsageError
from intaglio.load import vocabulary as module
from intaglio.load.ask import Ask, Form
from intaglio.load.failure import Failure
from intaglio.load.mix import mix
from intaglio.load.server import Server
from intaglio.load.synthetic import Synthetic
from intaglio.load.target import target
from intaglio.load.vocabulary import WORDS, Tokenize, Vocabulary, counted

FORM = Form("m", False, False, {})
CHAT = Form("m", True, False, {})


async def by_word(text: str) -> list[int]:
    """A token a word, after one that begins the text."""
    return [1, *(sum(map(ord, word)) for word in text.split(" "))]


async def by_syllable(text: str) -> list[int]:
    """Long words are several tokens; nothing stands around them."""
    return [len(word[i : i + 3]) for word in text.split(" ") for i in range(0, len(word), 3)]


async def by_byte(text: str) -> list[int]:
    """A space is a token, too."""
    return list(text.encode())


def bodies(asks: list[Ask]) -> list[Any]:
    return [json.loads(ask.body) for ask in asks]


def lengths(tokenize: Tokenize, asks: list[Ask]) -> list[int]:
    async def count() -> list[int]:
        return [len(await tokenize(body["prompt"])) for body in bodies(asks)]

    return asyncio.run(count())


def learn(tokenize: Tokenize) -> Vocabulary:
    async def run() -> Vocabulary:
        return await counted(tokenize)

    return asyncio.run(run())


def test_words_are_all_different() -> None:
    assert len(set(WORDS)) == len(WORDS) > 100


@pytest.mark.parametrize("tokenize", [by_word, by_syllable])
@pytest.mark.parametrize("prefix", [0, 50])
def test_prompts_are_exactly_as_long_as_asked(tokenize: Tokenize, prefix: int) -> None:
    vocabulary = learn(tokenize)
    asks = Synthetic(mix("a:5/1,b:64/2,c:333/3"), 30, prefix=prefix).asks(vocabulary, FORM, "0")
    assert lengths(tokenize, asks) == [ask.tokens for ask in asks]
    assert Counter(ask.tokens for ask in asks) == {5 + prefix: 10, 64 + prefix: 10, 333 + prefix: 10}
    assert {ask.part: ask.limit for ask in asks} == {"a": 1, "b": 2, "c": 3}


def test_where_no_word_fits_prompts_are_a_little_shorter() -> None:
    asks = Synthetic(mix("a:64/1,b:201/1"), 20).asks(learn(by_byte), FORM, "0")
    assert all(
        0 <= (ask.tokens or 0) - length < 5 for ask, length in zip(asks, lengths(by_byte, asks), strict=True)
    )


def test_words_are_counted_one_by_one_only_where_they_must() -> None:
    asked: list[str] = []

    def noting(tokenize: Tokenize) -> Tokenize:
        async def noted(text: str) -> list[int]:
            asked.append(text)
            return await tokenize(text)

        return noted

    assert learn(noting(by_word)).special == 1
    assert len(asked) == 3
    assert learn(noting(by_syllable)).costs[:3] == (1, 2, 2)
    assert len(asked) > 100


def test_without_a_count_a_word_is_a_token() -> None:
    (body,) = bodies(Synthetic(mix("a:40/1"), 1).asks(Vocabulary(), FORM, "0"))
    assert len(body["prompt"].split(" ")) == 40


def test_a_chat_has_no_tokens_around_its_text() -> None:
    (body,) = bodies(Synthetic(mix("a:40/7"), 1).asks(learn(by_word), CHAT, "0"))
    (message,) = body["messages"]
    assert message["role"] == "user"
    assert len(message["content"].split(" ")) == 40
    assert body["max_tokens"] == 7


def test_requests_share_their_beginnings_and_nothing_more() -> None:
    synthetic = Synthetic(mix("a:32/1"), 60, prefix=16, prefixes=3)
    prompts = [body["prompt"].split(" ") for body in bodies(synthetic.asks(Vocabulary(), FORM, "0"))]
    starts = Counter(tuple(words[:16]) for words in prompts)
    assert len(starts) == 3
    assert min(starts.values()) > 5
    assert len({tuple(words[16:22]) for words in prompts}) == 60


def test_lists_of_tokens_are_exact_and_the_servers_own() -> None:
    vocabulary = learn(by_word)
    synthetic = Synthetic(mix("a:32/1"), 10, prefix=5, as_ids=True)
    prompts = [body["prompt"] for body in bodies(synthetic.asks(vocabulary, FORM, "0"))]
    assert all(len(ids) == 37 for ids in prompts)
    assert len({tuple(ids[:5]) for ids in prompts}) == 1
    assert {token for ids in prompts for token in ids} <= set(asyncio.run(by_word(" ".join(WORDS)))) - {1}


def test_a_seed_is_a_load() -> None:
    synthetic = Synthetic(mix("a:32/8,b:64/8"), 20, range_ratio=0.5, prefix=4, prefixes=2)
    first, again, other = (synthetic.asks(Vocabulary(), FORM, seed) for seed in ("1", "1", "2"))
    assert first == again
    assert not {ask.body for ask in first} & {ask.body for ask in other}
    assert len({ask.tokens for ask in first}) > 5
    assert len({ask.limit for ask in first}) > 3


def test_warming_up_shares_nothing_with_what_follows() -> None:
    synthetic = Synthetic(mix("a:32/8"), 5, prefix=16)
    warming = bodies(synthetic.warming(3).asks(Vocabulary(), FORM, "0:warm-up"))
    measured = bodies(synthetic.asks(Vocabulary(), FORM, "0"))
    assert len(warming) == 3
    assert {len(body["prompt"].split(" ")) for body in warming} == {48}
    assert not {body["prompt"][:30] for body in warming} & {body["prompt"][:30] for body in measured}


def test_more_than_memory_holds_is_refused_before_it_is_made() -> None:
    with pytest.raises(UsageError, match="more than 4 GB of text"):
        Synthetic(mix("a:1048576/1"), 1 << 20).asks(Vocabulary(), FORM, "0")


def test_what_is_asked_besides() -> None:
    (body,) = bodies(
        Synthetic(mix("a:2/1"), 1).asks(
            Vocabulary(), Form("m", False, True, {"temperature": 0, "stream_options": None}), "0"
        )
    )
    del body["prompt"]
    assert body == {
        "model": "m",
        "max_tokens": 1,
        "stream": True,
        "stream_options": None,
        "ignore_eos": True,
        "temperature": 0,
    }
    (plain,) = bodies(Synthetic(mix("a:2/1"), 1).asks(Vocabulary(), FORM, "0"))
    assert plain["stream_options"] == {"include_usage": True}
    assert "ignore_eos" not in plain


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/tokenize", "prompt"),
        ("/tokenize", "content"),
        ("/extras/tokenize", "input"),
        ("/tokenize", "input"),
        ("/v3/tokenize", "text"),
    ],
)
def test_every_servers_way_to_tokenize_is_found(path: str, field: str) -> None:
    class Stub(Server):
        async def post(self, asked: str, value: Any) -> Any:
            if asked != path:
                raise Failure("HTTP 404")
            return {"tokens": [len(value[field])] if field in value else []}

    async def run() -> list[int] | None:
        tokenize = await module.tokenizer(Stub(target("http://x", "/v3/completions"), {}), "m")
        return await tokenize("abc") if tokenize else None

    assert asyncio.run(run()) == [3]


def test_a_server_without_one_or_out_of_reach() -> None:
    class Stub(Server):
        kind = "HTTP 404"

        async def post(self, asked: str, value: Any) -> Any:
            raise Failure(self.kind)

    stub = Stub(target("http://x", "/v1/completions"), {})
    assert asyncio.run(module.tokenizer(stub, "m")) is None
    stub.kind = "no connection"
    with pytest.raises(Failure):
        asyncio.run(module.tokenizer(stub, "m"))
