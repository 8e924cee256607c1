"""Answer: what comes back for one request, with the time of every piece that carried tokens."""

from __future__ import annotations

from intaglio.load.chunk import Usage, read, refusal
from intaglio.load.connection import Headers
from intaglio.load.events import Events
from intaglio.load.failure import DISCONNECTED, Failure

REFUSAL = 4096  # bytes of a refusal that are read
DONE = b"[DONE]"


class Answer:
    """`times`: when chunks with tokens were read; `ended`: when the stream said that it was whole."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.id: str | None = None
        self.times: list[float] = []
        self.usage: Usage | None = None
        self.finish: str | None = None
        self.ended: float | None = None
        self._events = Events()
        self._refusal: bytearray | None = None

    def begin(self, status: int, headers: Headers) -> None:
        self.status = status
        kind = next((value for name, value in headers if name == b"content-type"), b"")
        if status != 200:
            self._refusal = bytearray()
        elif not kind.startswith(b"text/event-stream"):
            raise Failure("no stream", f"content-type {kind.decode(errors='replace') or 'missing'}")

    def take(self, data: bytes, now: float) -> None:
        if self._refusal is not None:
            self._refusal += data[: REFUSAL - len(self._refusal)]
            return
        for event in self._events.feed(data):
            self._read(event, now)

    def end(self, now: float) -> None:
        if self._refusal is not None:
            raise Failure(f"HTTP {self.status}", refusal(bytes(self._refusal)))
        if self.ended is None:
            if self.finish is None:
                raise Failure(DISCONNECTED, "the stream ended without [DONE] or a finish_reason")
            self.ended = now

    def _read(self, event: bytes, now: float) -> None:
        if event.strip() == DONE:
            self.ended = now
            return
        chunk = read(event)
        self.id = self.id or chunk.id
        self.usage = chunk.usage or self.usage
        for choice in chunk.choices:
            self.finish = choice.finish_reason or self.finish
        if any(choice.grows for choice in chunk.choices):
            self.times.append(now)
