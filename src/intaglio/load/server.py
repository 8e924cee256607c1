"""Server: the connections to the server under load, and what it says about itself."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from time import monotonic
from typing import Any

import h11
import msgspec

from intaglio.errors import UsageError
from intaglio.load.chunk import refusal
from intaglio.load.connection import Connection, Headers, Sink
from intaglio.load.failure import NO_CONNECTION, TIMEOUT, Failure
from intaglio.load.target import Target

KEEP = 2.0  # seconds a connection may idle: servers close theirs after five, perhaps as we write
PATIENCE = 30.0  # seconds for an answer that is not measured
LARGEST = 64 << 20  # bytes of an answer that is read whole


class Server:
    """Connections are kept for the next request, as users' clients keep them; nothing is ever sent twice."""

    def __init__(self, target: Target, headers: Mapping[str, str]) -> None:
        self.target = target
        self.software = ""  # as its answers name it
        self._headers = {"host": target.authority, "content-type": "application/json", **headers}
        self._tls = ssl.create_default_context() if target.scheme == "https" else None
        self._idle: list[Connection] = []
        self._address: str | None = None  # a name is looked up once

    async def ask(self, body: bytes, sink: Sink) -> None:
        """Post to the endpoint. Raises Failure."""
        await self._exchange("POST", self.target.endpoint, body, sink)

    async def get(self, path: str) -> Any:
        """JSON. Raises Failure."""
        return await self._whole("GET", path, b"")

    async def post(self, path: str, value: Any) -> Any:
        """JSON for JSON. Raises Failure."""
        return await self._whole("POST", path, msgspec.json.encode(value))

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _whole(self, method: str, path: str, body: bytes) -> Any:
        whole = _Whole()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._exchange(method, path, body, whole)
        except TimeoutError:
            raise Failure(TIMEOUT, f"no answer to {path} in {PATIENCE:g} s") from None
        self.software = whole.software or self.software
        return whole.value()

    async def _exchange(self, method: str, path: str, body: bytes, sink: Sink) -> None:
        request = self._request(method, path, len(body))
        connection = await self._connection()
        try:
            await connection.exchange(request, body, sink)
        except BaseException:
            connection.close()
            raise
        if connection.alive:
            self._idle.append(connection)

    def _request(self, method: str, path: str, length: int) -> h11.Request:
        headers = self._headers | {"content-length": str(length)}
        try:
            return h11.Request(method=method, target=self.target.root + path, headers=list(headers.items()))
        except (h11.LocalProtocolError, UnicodeEncodeError) as error:
            raise UsageError(f"the URL or a header cannot be sent: {error}") from None

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()  # the one used last
            if connection.alive and monotonic() - connection.last_used < KEEP:
                return connection
            connection.close()
        return await self._connect()

    async def _connect(self) -> Connection:
        loop, target = asyncio.get_running_loop(), self.target
        name = target.host if self._tls else None
        try:
            transport, connection = await loop.create_connection(
                Connection, self._address or target.host, target.port, ssl=self._tls, server_hostname=name
            )
        except (OSError, UnicodeError) as error:
            raise Failure(NO_CONNECTION, _reason(error)) from None
        self._address = transport.get_extra_info("peername")[0]
        return connection


def _reason(error: Exception) -> str:
    """asyncio puts the address where the reason was."""
    refused = isinstance(error, ConnectionError) and error.errno
    return os.strerror(refused).lower() if refused else str(error)


class _Whole:
    """An answer that is read as one."""

    def __init__(self) -> None:
        self.software = ""
        self._status = 0
        self._body = bytearray()

    def begin(self, status: int, headers: Headers) -> None:
        self._status = status
        self.software = next((v.decode("latin-1") for name, v in headers if name == b"server"), "")

    def take(self, data: bytes, now: float) -> None:
        self._body += data
        if len(self._body) > LARGEST:
            raise Failure("broken HTTP", f"an answer of more than {LARGEST} bytes")

    def end(self, now: float) -> None:
        """Nothing is measured here."""

    def value(self) -> Any:
        if self._status != 200:
            raise Failure(f"HTTP {self._status}", refusal(bytes(self._body)))
        try:
            return msgspec.json.decode(self._body)
        except msgspec.DecodeError as error:
            raise Failure("bad JSON", str(error)) from None
