"""Draining: after SIGTERM requests under way may finish, new ones are turned away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from intaglio.server.refusal import Refusal


class Drain:
    """Counts the requests under way."""

    def __init__(self) -> None:
        self.draining = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def finished(self, seconds: float) -> bool:
        """Whether all ended within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def enter(self) -> None:
        if self.draining:
            raise Refusal(503, "the server is draining: ask another one", code="draining", retry_after=5)
        self._under_way += 1
        self._idle.clear()

    def leave(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()


class Turnstile:
    """Lets requests for work in, one by one; the rest passes by."""

    def __init__(self, app: ASGIApp, drain: Drain, paths: Iterable[str]) -> None:
        self._app = app
        self._drain = drain
        self._paths = tuple(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(self._paths):
            await self._app(scope, receive, send)
            return
        self._drain.enter()
        try:
            await self._app(scope, receive, send)
        finally:
            self._drain.leave()
