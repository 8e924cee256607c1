"""The relay: an answer on its way to the client; until a part was shown, another replica may give it."""

from __future__ import annotations

from starlette.types import Send

from intaglio.serve_ray.answer import Head
from intaglio.server.refusal import Refusal
from intaglio.server.sse import DONE, event

ROLE = b'{"role":"assistant","content":""}'  # how a chat's stream begins before anything is generated


class Relay:
    """`begun`: the client was shown a part of the answer. Only streams are shown in parts."""

    def __init__(self, send: Send) -> None:
        self.begun = False
        self._send = send
        self._head: Head | None = None
        self._held: list[bytes] = []

    async def take(self, part: Head | bytes) -> None:
        """The next part; a head begins the answer anew."""
        if isinstance(part, Head):
            self._head, self._held = part, []
        elif self.begun:
            await self._body(part)
        else:
            self._held.append(part)
            if self._streams and ROLE not in part:
                await self._begin()

    async def end(self) -> None:
        """There is no more."""
        if not self.begun:
            await self._begin()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def break_off(self, refusal: Refusal) -> None:
        """The replica is lost, and what it generated cannot be taken back: the last event says so."""
        await self._body(event(refusal.body) + DONE)
        await self.end()

    @property
    def _streams(self) -> bool:
        headers = dict(self._head.headers) if self._head else {}
        return headers.get(b"content-type", b"").startswith(b"text/event-stream")

    async def _begin(self) -> None:
        if self._head is None:
            raise RuntimeError("an answer ended without a head")
        self.begun = True
        headers = list(self._head.headers)
        await self._send({"type": "http.response.start", "status": self._head.status, "headers": headers})
        await self._body(b"".join(self._held))

    async def _body(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
