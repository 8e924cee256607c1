"""Vocabulary: words whose tokens the server has counted, to make texts of an exact length from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import msgspec

from intaglio.load.failure import NO_CONNECTION, TIMEOUT, Failure
from intaglio.load.server import Server

Tokenize = Callable[[str], Awaitable[list[int]]]

TEXT = """the time year people way day man thing woman life child world school state family student group
    country problem hand part place case week company system program question work government number
    night point home water room mother area money story fact month lot right study book eye job word
    business issue side kind head house service friend father power hour game line end member law
    car city community name president team minute idea body information back parent face others
    level office door health person art war history party result change morning reason research girl
    guy moment air teacher force education foot boy age policy music market sense nation plan
    college interest death course experience effect use class control field development role effort
    rate heart drug show leader light voice wife police mind price report decision son view
    relationship town road arm difference value building action season society tax director position
    player record paper space ground form event"""
WORDS = tuple(TEXT.split())  # short and frequent: each is one token of nearly every vocabulary


class Vocabulary(msgspec.Struct, frozen=True):
    """`costs`: tokens of each word after another; `special`: tokens the server puts around a text.

    `ids`: tokens these words are made of, for prompts that are lists of tokens; none where nothing is known.
    """

    words: tuple[str, ...] = WORDS
    costs: tuple[int, ...] = (1,) * len(WORDS)
    special: int = 0
    ids: tuple[int, ...] = ()

    def opening(self, tokens: int, random: Random) -> list[str]:
        """Words that begin a text of so many tokens, with those the server puts around it."""
        # always the same word first: one that follows no space may be other tokens
        return [self.words[0], *self.draw(tokens - self.costs[0] - self.special, random)]

    def draw(self, tokens: int, random: Random) -> list[str]:
        """Words of so many tokens; fewer where no word fits what is left."""
        if max(self.costs) == 1:
            return random.choices(self.words, k=max(0, tokens))
        drawn: list[str] = []
        while fitting := [i for i, cost in enumerate(self.costs) if cost <= tokens]:
            index = random.choice(fitting)
            drawn.append(self.words[index])
            tokens -= self.costs[index]
        return drawn


async def counted(tokenize: Tokenize) -> Vocabulary:
    """The words as this server counts them: two short texts, and each word only where one is several tokens.

    Raises Failure.
    """
    first = WORDS[0]
    alone, twice = len(await tokenize(first)), len(await tokenize(f"{first} {first}"))
    special = max(0, 2 * alone - twice)
    every = await tokenize(" ".join(WORDS))
    ids = tuple(sorted(set(every[special:])))
    if len(every) == len(WORDS) + special:
        return Vocabulary(special=special, ids=ids)
    costs = [len(await tokenize(f"{first} {word}")) - alone for word in WORDS]
    return Vocabulary(costs=tuple(max(1, cost) for cost in costs), special=special, ids=ids)


async def tokenizer(server: Server, model: str) -> Tokenize | None:
    """What counts tokens at this server: the first of the endpoints in use that answers with tokens.

    Raises Failure: no answer at all.
    """
    for path, field in _endpoints(server):
        endpoint = Endpoint(server, model, path, field)
        try:
            if await endpoint.tokens("the time"):
                return endpoint.tokens
        except Failure as failure:
            if failure.kind in (NO_CONNECTION, TIMEOUT):
                raise
    return None


def _endpoints(server: Server) -> list[tuple[str, str]]:
    """Path and field of a text: Intaglio and vLLM, llama.cpp, llama-cpp-python (twice), OpenVINO's server."""
    plain = [("/tokenize", "prompt"), ("/tokenize", "content"), ("/extras/tokenize", "input")]
    return [*plain, ("/tokenize", "input"), (f"{server.target.version}/tokenize", "text")]


class Endpoint(msgspec.Struct, frozen=True):
    """A server's tokenizer, asked as one of the programs does it."""

    server: Server
    model: str
    path: str
    field: str

    async def tokens(self, text: str) -> list[int]:
        """Token ids with those around a text. Raises Failure."""
        # llama.cpp leaves the special tokens out unless asked; the others ignore what they do not know
        asked = {"model": self.model, self.field: text, "add_special": True}
        found = await self.server.post(self.path, asked)
        try:
            return msgspec.convert(found, _Tokens).tokens
        except msgspec.ValidationError as error:
            raise Failure("bad JSON", str(error)) from None


class _Tokens(msgspec.Struct):
    tokens: list[int]
