"""A generation: one answer on its way from the engine's thread to whoever waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import NamedTuple

from intaglio.engine.request import Request
from intaglio.engine.sampling import Logprobs
from intaglio.server.refusal import Refusal


class Piece(NamedTuple):
    """What came since the last one. `finish_reason` is in the last piece only."""

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[Logprobs, ...] = ()
    finish_reason: str | None = None
    stop_reason: str | int | None = None

    def __add__(self, later: Piece) -> Piece:  # type: ignore[override]  # pieces join as texts do
        return Piece(
            self.text + later.text,
            self.tokens + later.tokens,
            self.logprobs + later.logprobs,
            later.finish_reason,
            later.stop_reason,
        )


@dataclass(eq=False)
class Generation:
    """Iterate over it for its pieces; those that came meanwhile are joined. All times are monotonic seconds.

    The engine's thread owns `request` and the fields below it; the event loop the others.
    """

    request: Request
    deadline: float
    arrived: float = field(default_factory=time.monotonic)
    shown: int = 0  # tokens that were given out
    begun: float | None = None  # when its prompt began to be computed
    first: float | None = None  # when the first token came
    last: float | None = None  # and the last
    _pending: Piece | Refusal | None = None
    _ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def prompt_tokens(self) -> int:
        return self.request.sequence.prompt_length

    @property
    def cached_tokens(self) -> int:
        """Of the prompt's, those that others had computed before."""
        return self.request.timing.cached_tokens

    @property
    def output_tokens(self) -> int:
        return self.shown

    def put(self, news: Piece | Refusal) -> None:
        """On the event loop: more of the answer, or why there is none."""
        if isinstance(news, Piece) and isinstance(self._pending, Piece):
            news = self._pending + news
        self._pending = news
        self._ready.set()

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Piece]:
        while True:
            await self._ready.wait()
            self._ready.clear()
            news, self._pending = self._pending, None
            if isinstance(news, Refusal):
                raise news
            if news is not None:
                yield news
                if news.finish_reason is not None:
                    return

    async def whole(self) -> Piece:
        """All of it, when it is done."""
        whole = Piece("", ())
        async for piece in self:
            whole = whole + piece
        return whole
