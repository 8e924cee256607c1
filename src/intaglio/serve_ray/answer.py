"""An answer: what an ASGI application says to a request that did not come through a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

from starlette.types import ASGIApp, Message

LEAVING = 5.0  # seconds in which an application must notice that nobody reads its answer


class Call(NamedTuple):
    """A request, whole, as it travels between processes."""

    method: str
    path: str
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""


class Head(NamedTuple):
    """How an answer begins; pieces of its body follow."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]


class Whole(NamedTuple):
    """An answer at once."""

    head: Head
    body: bytes


class Answer:
    """Iterate over it for the head and the pieces; leaving the loop is what a client's leaving is."""

    def __init__(self, app: ASGIApp, call: Call) -> None:
        self._app = app
        self._call = call
        self._asked = False
        self._gone = asyncio.Event()
        self._parts: asyncio.Queue[Head | bytes | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[Head | bytes]:
        running = asyncio.ensure_future(self._run())
        try:
            while (part := await self._parts.get()) is not None:
                yield part
            await running
        finally:
            self._gone.set()
            await asyncio.wait({running}, timeout=LEAVING)
            running.cancel()

    async def whole(self) -> Whole:
        """All of it, when it is done."""
        head, body = Head(500, ()), b""
        async for part in self:
            if isinstance(part, Head):
                head = part
            else:
                body += part
        return Whole(head, body)

    async def _run(self) -> None:
        call = self._call
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": call.method,
            "scheme": "http",
            "path": call.path,
            "raw_path": call.path.encode(),
            "root_path": "",
            "query_string": call.query,
            "headers": list(call.headers),
            "client": None,
            "server": None,
        }
        try:
            await self._app(scope, self._receive, self._send)
        finally:
            self._parts.put_nowait(None)

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self._call.body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._parts.put_nowait(Head(message["status"], tuple(message.get("headers", ()))))
        elif message.get("body"):
            self._parts.put_nowait(message["body"])
