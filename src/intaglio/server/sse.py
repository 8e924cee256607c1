"""Server-sent events: an answer in pieces, ended when nobody reads it any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from intaglio.server.refusal import Refusal

T = TypeVar("T")
QUIET = 15.0  # seconds without an event after which a comment keeps proxies from closing the connection
DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.Encoder().encode


class Gone(Exception):  # noqa: N818 - reads as what it says
    """The client has left."""


def event(value: Any) -> bytes:
    """One event."""
    return b"data: " + _encode(value) + b"\n\n"


class EventStream(Response):
    """Sends `events` as they come, then [DONE]; `leave` is called however it ends.

    A refusal after the first event is an event of its own; a client that takes longer than `write_seconds`
    for one is taken for gone.
    """

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncIterator[bytes], leave: Callable[[], None], *, write_seconds: float
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._events = events
        self._leave = leave
        self._seconds = write_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await until_gone(receive, self._write(send))
        except (Gone, OSError, TimeoutError):
            pass  # nobody is there to be told
        finally:
            self._leave()

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async for piece in patient(self._events, QUIET):
                await self._send(send, piece)
        except Refusal as refusal:
            await self._send(send, event(refusal.body))
        await self._send(send, DONE)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, body: bytes) -> None:
        async with asyncio.timeout(self._seconds):
            await send({"type": "http.response.body", "body": body, "more_body": True})


async def patient(events: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """The events, and a comment whenever none came for so long."""
    following = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait({following}, timeout=seconds)
            if not done:
                yield b": still here\n\n"
                continue
            if (found := following.result()) is None:
                return
            yield found
            following = asyncio.ensure_future(anext(events, None))
    finally:
        following.cancel()


async def until_gone(receive: Receive, work: Awaitable[T]) -> T:
    """What the work gives, unless the client leaves first: raises Gone."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Gone
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
