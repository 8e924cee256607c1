"""A connection: uvicorn's, with bounds on how many there are, and on how a request may begin."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 15.0  # until a request's head has come whole
HEAD_BYTES = 64 << 10
MOST = 1024  # connections at once


class Connection(HttpToolsProtocol):
    """Ends itself when no whole head of a request comes: a trickle must not hold a socket for ever."""

    _timer: asyncio.TimerHandle | None = None
    _head = 0  # bytes of a head that is not whole

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > MOST:
            transport.close()
        else:
            self._expect()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._forget()
        elif self._timer is not None:
            self._head += len(data)
            if self._head > HEAD_BYTES:
                self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _expect(self) -> None:
        """A head, soon."""
        self._forget()
        self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._head = None, 0
