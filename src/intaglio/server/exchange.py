"""An exchange: one HTTP request and its answer, seen from outside everything that handles it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from intaglio.server.answering import Answering

UNROUTED = "other"  # of paths that lead nowhere: there is no end to them
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
GONE = 499  # what is noted where the client left before an answer began, as nginx does


class Exchange:
    """What can be told of a request; whole when it is over. Seconds are monotonic."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.started = time.monotonic()
        self.seconds = 0.0
        self.status = GONE
        self.whole = False  # the answer was sent to its end
        self.gone = False  # the client left before that
        self.trace_id: str | None = None

    @property
    def method(self) -> str:
        """One of the usual ones, or "other"."""
        method = str(self.scope["method"])
        return method if method in METHODS else "other"

    @property
    def path(self) -> str:
        """As the client wrote it: of any length, with anything in it."""
        return str(self.scope["path"])

    @property
    def route(self) -> str:
        """The template of the path, of which there are few: /v1/models/{name:path}."""
        route = self.scope.get("route")
        return UNROUTED if route is None else str(route.path)

    @property
    def request_id(self) -> str | None:
        return self._state.get("request_id")

    @property
    def answering(self) -> Answering | None:
        """What it became, where it was for a generation."""
        return self._state.get("answering")

    @property
    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.scope.get("state", {})
        return state


class Observer(Protocol):
    """Is told of every exchange, on the event loop: must be quick, and must not raise."""

    def began(self, exchange: Exchange) -> None: ...
    def ended(self, exchange: Exchange) -> None: ...


class Observed:
    """Goes around the whole application, so that what the guard refuses is seen too."""

    def __init__(self, app: ASGIApp, observers: Sequence[Observer]) -> None:
        self._app = app
        self._observers = tuple(observers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})  # made here, whoever writes into it later
        exchange = Exchange(scope)
        for observer in self._observers:
            observer.began(exchange)
        try:
            await self._app(scope, _Incoming(exchange, receive), _Outgoing(exchange, send))
        finally:
            exchange.seconds = time.monotonic() - exchange.started
            for observer in self._observers:
                observer.ended(exchange)


class _Incoming:
    """Sees the client leave."""

    def __init__(self, exchange: Exchange, receive: Receive) -> None:
        self._exchange = exchange
        self._receive = receive

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._exchange.whole:
            self._exchange.gone = True
        return message


class _Outgoing:
    """Sees the status, and whether the end was sent; a piece that cannot be sent is one that nobody takes."""

    def __init__(self, exchange: Exchange, send: Send) -> None:
        self._exchange = exchange
        self._send = send

    async def __call__(self, message: Message) -> None:
        try:
            await self._send(message)
        except BaseException:
            self._exchange.gone = True
            raise
        if message["type"] == "http.response.start":
            self._exchange.status = message["status"]
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self._exchange.whole = True
