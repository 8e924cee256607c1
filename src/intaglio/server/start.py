"""Starting: models behind engines behind an application, and the server that runs it."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Mapping
from typing import NamedTuple

from starlette.types import ASGIApp

from intaglio.engine.llm import LLM
from intaglio.errors import IntaglioError
from intaglio.server.app import create_app
from intaglio.server.drain import Drain
from intaglio.server.engine import Engine
from intaglio.server.metrics import Metrics
from intaglio.server.run import Server
from intaglio.server.served import Served, defaults_of
from intaglio.server.settings import Settings
from intaglio.server.traces import Tracing

SWITCH = 5e-4  # seconds for which the event loop may keep an engine that has done its step from going on


class Assembled(NamedTuple):
    """What is to be run."""

    app: ASGIApp
    settings: Settings
    drain: Drain


def serve(llms: Mapping[str, LLM], settings: Settings, tracing: Tracing | None = None) -> Assembled:
    """The application that serves these models under their names; nothing runs yet."""
    metrics, drain = Metrics(), Drain()
    served = [
        Served(
            Engine(llm, name, max_waiting=settings.max_waiting, watch=metrics.watch(name)),
            defaults_of(llm.checkpoint),
        )
        for name, llm in llms.items()
    ]
    return Assembled(create_app(served, settings, metrics, drain, tracing), settings, drain)


def listen(settings: Settings) -> socket.socket:
    """The socket, open; port 0 is any that is free."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=512)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a token must not wait for company
        return listening
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise IntaglioError(f"cannot listen at {where}: {(error.strerror or str(error)).lower()}") from None


def url_of(listening: socket.socket) -> str:
    """Where a client on this machine finds it."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(assembled: Assembled, listening: socket.socket) -> None:
    """Serve until a signal ends it."""
    sys.setswitchinterval(SWITCH)
    asyncio.run(Server(*assembled).serve([listening]))
