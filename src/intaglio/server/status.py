"""What a server says of itself: /health, /version, /v1/models, /stats."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

import intaglio
from intaglio.server.json_answer import JsonAnswer
from intaglio.server.refusal import Refusal

routes = APIRouter()


@routes.get("/health")
async def health(request: Request) -> Response:
    """200 when requests are answered; 503 while the server drains, or an engine keeps failing."""
    state = request.app.state
    if state.drain.draining:
        raise Refusal(503, "the server is draining", code="draining")
    for served in state.models:
        if not served.engine.healthy:
            raise Refusal(503, f"the engine of {served.name} keeps failing", code="engine_unhealthy")
    return JsonAnswer({"status": "ok"})


@routes.get("/version")
async def version() -> Response:
    """The program's version."""
    return JsonAnswer({"version": intaglio.__version__})


@routes.get("/v1/models")
async def models(request: Request) -> Response:
    """What is served."""
    return JsonAnswer({"object": "list", "data": [served.card for served in request.app.state.models]})


@routes.get("/v1/models/{name:path}")
async def model(name: str, request: Request) -> Response:
    """One of them."""
    return JsonAnswer(request.app.state.models.find(name).card)


@routes.get("/stats")
async def stats(request: Request) -> Response:
    """What the engines do at the moment, for people to look at; /metrics is for programs."""
    state = request.app.state
    told: list[dict[str, Any]] = [state.metrics.gauges(served) for served in state.models]
    return JsonAnswer({"models": told, "uptime_seconds": time.monotonic() - state.started})
