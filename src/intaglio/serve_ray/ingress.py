"""The ingress: the deployment that clients reach through Ray's proxies."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from intaglio.serve_ray.front import Front
from intaglio.server import logs
from intaglio.server.guard import Guard, open_to
from intaglio.server.settings import Settings


class Ingress:
    """A process of its own; `replicas` is the handle of their deployment."""

    def __init__(self, replicas: Any, settings: Settings, log_format: str) -> None:
        self._replicas = replicas
        self._settings = settings
        self._log_format = log_format

    def __serve_build_asgi_app__(self) -> ASGIApp:
        logs.configure(self._log_format)
        return guarded(self._replicas, self._settings)


def guarded(replicas: Any, settings: Settings) -> ASGIApp:
    """The front behind the guard: what is let through is whole, in bounds, and has a key."""
    return _Mounted(open_to(Guard(Front(replicas), settings), settings.origins))


class _Mounted:
    """The application where Ray mounts it: keys depend on paths, so paths must come without the prefix."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def without_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                del MutableHeaders(scope=message)["x-request-id"]  # the proxy adds the same
            await send(message)

        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            scope = {**scope, "path": path, "root_path": ""}
        await self._app(scope, receive, without_id)
