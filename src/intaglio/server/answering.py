"""Answering: the generations of one request, streamed or whole, and given up when the client leaves."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from intaglio.engine.output import SamplingParams
from intaglio.server.ask import Ask
from intaglio.server.generation import Generation, Piece
from intaglio.server.prompts import usage
from intaglio.server.refusal import Refusal
from intaglio.server.served import Served
from intaglio.server.settings import Limits


@dataclass
class Answering:
    """`kind` begins the id that the client sees: chatcmpl or cmpl."""

    served: Served
    kind: str
    limits: Limits
    generations: list[Generation] = field(default_factory=list)
    choices: int = 1  # of every prompt
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.id = f"{self.kind}-{secrets.token_hex(12)}"

    def begin(self, ask: Ask, prompts: list[list[int]], params: list[SamplingParams]) -> None:
        """`len(params)` choices for every prompt; all of them are taken or none."""
        self.choices = len(params)
        self.served.engine.admit(len(prompts) * len(params))
        try:
            for prompt in prompts:
                for each in params:
                    self.generations.append(
                        self.served.engine.submit(
                            prompt,
                            each,
                            priority=ask.priority,
                            seconds=ask.seconds(self.limits.seconds),
                            cache_salt=ask.cache_salt,
                        )
                    )
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Whatever is not done is not wanted."""
        for generation in self.generations:
            self.served.engine.cancel(generation)

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """However it ends, nothing goes on."""
        try:
            yield
        finally:
            self.leave()

    async def whole(self) -> list[Piece]:
        """All choices, when all are done."""
        with self.leaving():
            return await asyncio.gather(*(generation.whole() for generation in self.generations))

    async def merged(self) -> AsyncIterator[tuple[int, Piece]]:
        """Pieces of all choices as they come, with the choice's number."""
        if len(self.generations) == 1:
            async for piece in self.generations[0]:
                yield 0, piece
            return
        waiting = {}
        iterators = [aiter(generation) for generation in self.generations]
        for index, one in enumerate(iterators):
            waiting[asyncio.ensure_future(anext(one, None))] = index
        try:
            while waiting:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    index, news = waiting.pop(task), task.result()
                    if news is not None:
                        yield index, news
                        waiting[asyncio.ensure_future(anext(iterators[index], None))] = index
        finally:
            for task in waiting:
                task.cancel()

    def usage(self, choices: int) -> dict[str, Any]:
        """Of all generations; a prompt counts once, however many choices were made of it."""
        firsts = self.generations[::choices]
        return usage(
            sum(one.prompt_tokens for one in firsts),
            sum(one.cached_tokens for one in firsts),
            sum(one.output_tokens for one in self.generations),
        )

    def head(self, kind: str) -> dict[str, Any]:
        """What every object that a client gets begins with."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.served.name}


def budget(served: Served, prompt: int, asked: int | None, default: int | None) -> int:
    """Tokens that may be generated after a prompt of so many: as asked, as far as the context goes."""
    room = served.max_context - prompt
    if room < 1:
        raise Refusal(
            400,
            f"the prompt has {prompt} tokens, the context of {served.name} {served.max_context}: shorten it",
            code="context_length_exceeded",
        )
    wanted = asked if asked is not None else default
    return room if wanted is None else min(wanted, room)


def note(request: Request, answering: Answering) -> None:
    """For the log: what this request became."""
    request.state.answering = answering
