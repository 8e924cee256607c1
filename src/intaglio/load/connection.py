"""Connection: one HTTP/1.1 connection; every piece of an answer gets the time at which it was read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import monotonic
from typing import Protocol, cast

import h11

from intaglio.load.failure import DISCONNECTED, Failure

Headers = Iterable[tuple[bytes, bytes]]


class Sink(Protocol):
    """What an answer is given to as it comes; may raise `Failure`. Times are those of `time.monotonic`."""

    def begin(self, status: int, headers: Headers) -> None: ...
    def take(self, data: bytes, now: float) -> None: ...
    def end(self, now: float) -> None: ...


class Connection(asyncio.Protocol):
    """One exchange after another, never two at once."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT)
        self._sink: Sink | None = None
        self._ended: asyncio.Future[None] | None = None
        self.alive = True
        self.last_used = 0.0

    async def exchange(self, request: h11.Request, body: bytes, sink: Sink) -> None:
        """Send a request and give its answer to `sink`; back when it is whole. Raises Failure."""
        self._sink, self._ended = sink, asyncio.get_running_loop().create_future()
        pieces = (self._http.send(event) for event in (request, h11.Data(body), h11.EndOfMessage()))
        self._transport.write(b"".join(piece for piece in pieces if piece))
        await self._ended
        self._recycle()

    def close(self) -> None:
        """At once, whatever is under way."""
        self.alive = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        now = monotonic()
        if not self._waiting():
            self.close()  # nobody asked
            return
        try:
            self._http.receive_data(data)
            self._read(now)
        except Failure as failure:
            self._fail(failure)
        except h11.RemoteProtocolError as error:
            self._fail(Failure("broken HTTP", str(error)))

    def connection_lost(self, error: Exception | None) -> None:
        self.alive = False
        if not self._waiting():
            return
        try:  # an answer without a length ends where the connection does
            self._http.receive_data(b"")
            self._read(monotonic())
        except Failure as failure:
            self._fail(failure)
        except h11.RemoteProtocolError as broken:
            self._fail(Failure(DISCONNECTED, str(error or broken)))

    def _read(self, now: float) -> None:
        assert self._sink is not None
        assert self._ended is not None
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Data):
                self._sink.take(bytes(event.data), now)
            elif isinstance(event, h11.Response):
                self._sink.begin(event.status_code, event.headers)
            elif isinstance(event, h11.EndOfMessage):
                self._sink.end(now)
                self._ended.set_result(None)
                return
            elif not isinstance(event, h11.InformationalResponse):
                return  # more has to come

    def _waiting(self) -> bool:
        return self._ended is not None and not self._ended.done()

    def _fail(self, failure: Failure) -> None:
        assert self._ended is not None
        self._ended.set_exception(failure)
        self.close()

    def _recycle(self) -> None:
        """Ready for another exchange, or closed where the server wants it so."""
        if self.alive and self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self.last_used = monotonic()
        else:
            self.close()
