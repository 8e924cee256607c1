"""Running: uvicorn around the application, and a graceful end."""

from __future__ import annotations

import asyncio
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from intaglio.server.connection import Connection
from intaglio.server.drain import Drain
from intaglio.server.settings import Settings


class Server(uvicorn.Server):
    """The first SIGTERM or SIGINT drains, a second ends at once."""

    def __init__(self, app: ASGIApp, settings: Settings, drain: Drain) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=Connection,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=1,
            )
        )
        self._drain = drain
        self._seconds = settings.drain_seconds
        self._ending: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._drain.draining:
            self.should_exit = self.force_exit = True
            return
        self._drain.draining = True  # a signal's handler does as little as it can
        self._loop.call_soon_threadsafe(self._begin)

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)  # type: ignore[arg-type]

    def _begin(self) -> None:
        self._ending = asyncio.ensure_future(self._end())

    async def _end(self) -> None:
        await self._drain.finished(self._seconds)
        self.should_exit = True
