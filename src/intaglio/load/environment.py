"""Environment: from where, with what and against what it was measured."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime

import msgspec

import intaglio
from intaglio.load.failure import Failure
from intaglio.load.server import Server
from intaglio.processor import processor_name


class Environment(msgspec.Struct, frozen=True):
    """`server`: its software and version, as far as it says; the rest is the machine that sends."""

    started: str
    intaglio: str
    python: str
    platform: str
    cpu: str
    cores: int
    server: str
    server_version: str | None


async def environment(server: Server) -> Environment:
    version = await _version(server)
    return Environment(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        intaglio=intaglio.__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        cpu=processor_name(),
        cores=len(os.sched_getaffinity(0)),
        server=server.software,
        server_version=version,
    )


async def _version(server: Server) -> str | None:
    try:
        found = await server.get("/version")
    except Failure:
        return None
    version = found.get("version") if isinstance(found, dict) else None
    return version if isinstance(version, str) else None
