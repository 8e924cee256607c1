"""The guard: what stands between a socket and the routes. Nothing here reads more than it was told to.

Who may ask (keys, hosts, origins), how large and how slow a body may be, and that whatever goes wrong leaves
as one sentence in OpenAI's form, with the request's id and never a path or a traceback.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from intaglio.server.json_answer import JsonAnswer
from intaglio.server.refusal import Refusal
from intaglio.server.settings import Settings
from intaglio.server.sse import Gone

log = logging.getLogger("intaglio.server")
GUARDED = ("/v1/", "/tokenize", "/detokenize", "/stats")  # and all that begins so
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
LOCAL = ("localhost", "127.0.0.1", "[::1]")


class Guard:
    """The outermost part of the application."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._keys = [key.encode() for key in settings.api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        scope.setdefault("state", {})["request_id"] = identity = _request_id(headers)
        outgoing = _Outgoing(send, identity)
        try:
            self._check(scope, headers)
            incoming = _Body(receive, headers, self._settings) if scope["method"] == "POST" else receive
            await self._app(scope, incoming, outgoing)
        except Gone:
            pass
        except Refusal as refusal:
            await outgoing.refuse(refusal, scope, receive)
        except Exception as error:
            log.error("request %s failed", identity, exc_info=error)
            await outgoing.refuse(failed(identity), scope, receive)

    def _check(self, scope: Scope, headers: Headers) -> None:
        self._check_host(headers)
        if scope["path"].startswith(GUARDED) and scope["method"] != "OPTIONS":
            self._check_key(headers)
        if scope["method"] == "POST":
            _check_type(headers)

    def _check_host(self, headers: Headers) -> None:
        """A page elsewhere whose name was made to mean this machine must not reach a server without keys."""
        if not self._settings.loopback or self._keys:
            return
        host = re.sub(r":\d+$", "", headers.get("host", ""))
        if host not in (*LOCAL, self._settings.host):
            raise Refusal(
                403, f"this server answers to {', '.join(LOCAL)}, not to {host[:100]!r}", code="host"
            )

    def _check_key(self, headers: Headers) -> None:
        if not self._keys:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        known = given.strip().encode() if scheme.lower() == "bearer" else b""
        equal = [hmac.compare_digest(known, key) for key in self._keys]  # all of them: no early end
        if not any(equal):
            raise Refusal(
                401, "the API key is missing or wrong: Authorization: Bearer KEY", code="invalid_api_key"
            )


def open_to(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The same for pages of these origins too (CORS)."""
    if not origins:
        return app
    return CORSMiddleware(app, origins, allow_methods=["GET", "POST"], allow_headers=["*"])


class _Body:
    """A body, as far as its size and time are in bounds."""

    def __init__(self, receive: Receive, headers: Headers, settings: Settings) -> None:
        self._receive = receive
        self._most = settings.limits.body_bytes
        self._until = asyncio.get_running_loop().time() + settings.limits.body_seconds
        self._read = 0
        self._whole = False
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._most:
            raise self._too_large()

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()  # a disconnect, whenever it comes
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise Refusal(408, "the body of the request came too slowly", code="body_timeout") from None
        self._read += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._read > self._most:
            raise self._too_large()
        return message

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the body is larger than {self._most} bytes", code="body_too_large")


class _Outgoing:
    """What is sent, with the request's id; knows whether an answer has begun."""

    def __init__(self, send: Send, identity: str) -> None:
        self._send = send
        self._identity = identity
        self.begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            MutableHeaders(scope=message)["x-request-id"] = self._identity
        await self._send(message)

    async def refuse(self, refusal: Refusal, scope: Scope, receive: Receive) -> None:
        """Once an answer has begun it can only be cut off."""
        if not self.begun:
            headers = (
                {**refusal.headers, "connection": "close"}
                if refusal.status in (408, 413)
                else refusal.headers
            )
            await JsonAnswer(refusal.body, refusal.status, dict(headers))(scope, receive, self)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _check_type(headers: Headers) -> None:
    """A form of a page elsewhere cannot send JSON without asking first."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, f"content-type is {kind[:100]!r}, expected application/json", code="content_type")


def failed(identity: str) -> Refusal:
    """For a mistake of ours: no more than where to look for it."""
    said = f"the server failed at this request; its log has more under {identity}"
    return Refusal(500, said, code="internal_error")


def sentence(errors: Iterable[Any]) -> Refusal:
    """The first of pydantic's errors as a refusal that names the field."""
    first = next(iter(errors))
    path = ".".join(str(part) for part in first["loc"] if part != "body")
    said = str(first["msg"]).removeprefix("Value error, ")
    return Refusal(400, f"{path}: {said}" if path else said, param=path or None, code="invalid_request")
