"""Server-sent events: an answer in pieces, ended when nobody reads it any more."""

from __future__ import annotations

import asyncio
import time
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
    for one is taken for gone. One clock a stream watches over both kinds of waiting: there are thousands of
    events a second, and a timer for each would cost more than all else.
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
        self._patience = write_seconds
        self._busy: float | None = None  # since when a client has been taking its event
        self._last = 0.0  # when one was sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writing = asyncio.ensure_future(self._write(send))
        watching = asyncio.ensure_future(self._watch(send))
        watching.add_done_callback(lambda _: writing.cancel())  # it ends by itself only when nobody reads
        try:
            await until_gone(receive, writing)
        except (Gone, OSError):
            pass  # nobody is there to be told
        except asyncio.CancelledError:
            if not watching.done():  # then it is the server that ends, not the client that does not read
                raise
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            self._leave()

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async for piece in self._events:
                await self._send(send, piece)
        except Refusal as refusal:
            await self._send(send, event(refusal.body))
        await self._send(send, DONE)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, body: bytes) -> None:
        self._busy = time.monotonic()
        await send({"type": "http.response.body", "body": body, "more_body": True})
        self._last, self._busy = self._busy, None

    async def _watch(self, send: Send) -> None:
        """Ends when an event is not taken; sends a comment when none came for long."""
        self._last = time.monotonic()
        while True:
            await asyncio.sleep(min(QUIET, self._patience) / 2)
            now = time.monotonic()
            if self._busy is None:
                if now - self._last > QUIET:
                    await self._send(send, b": still here\n\n")
            elif now - self._busy > self._patience:
                return


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
