"""The application: routes, what they share, and who watches over them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

import intaglio
from intaglio.errors import UsageError
from intaglio.server import assets, chat, completions, embeddings, status, tokens
from intaglio.server.drain import Drain, Turnstile
from intaglio.server.exchange import Observed
from intaglio.server.guard import Guard, failed, open_to, sentence
from intaglio.server.json_answer import JsonAnswer
from intaglio.server.logs import AccessLog
from intaglio.server.metrics import Metrics
from intaglio.server.refusal import Refusal
from intaglio.server.served import Models, Served
from intaglio.server.settings import Settings
from intaglio.server.traces import Tracing

WORK = ("/v1/chat", "/v1/completions", "/v1/embeddings")


def create_app(
    served: Sequence[Served],
    settings: Settings,
    metrics: Metrics,
    drain: Drain,
    tracing: Tracing | None = None,
) -> ASGIApp:
    """Everything between the socket and the engines, which start and end with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for one in served:
            one.engine.start()
        yield
        for one in served:
            await one.engine.close()

    app = FastAPI(title="Intaglio", version=intaglio.__version__, lifespan=lifespan)
    app.state.models = Models(list(served))
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.drain = drain
    app.state.started = time.monotonic()
    for part in (chat, completions, embeddings, tokens, status):
        app.include_router(part.routes)
    metrics.mount(app)
    if settings.page:
        app.router.routes.extend(assets.routes())
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    guarded = Guard(Turnstile(app, drain, WORK), settings)
    traced = (tracing,) if tracing else ()
    observed = Observed(guarded, (*traced, metrics.traffic, AccessLog()))  # the log tells the trace's id
    return open_to(observed, settings.origins)


async def _refused(request: Request, refusal: Any) -> Response:
    return JsonAnswer(refusal.body, refusal.status, dict(refusal.headers))


async def _unusable(request: Request, error: Any) -> Response:
    """What the engine says of a request that cannot be."""
    return await _refused(request, Refusal(400, str(error), code="invalid_request"))


async def _invalid(request: Request, error: Any) -> Response:
    return await _refused(request, sentence(error.errors()))


async def _failed(request: Request, error: Any) -> Response:
    """Starlette raises the error again after this has been sent: the guard logs it."""
    return await _refused(request, failed(request.state.request_id))


async def _unrouted(request: Request, error: Any) -> Response:
    """Unknown paths and methods; and what the guard refused while FastAPI read the body, which hides it."""
    if isinstance(error.__cause__, Refusal):
        return await _refused(request, error.__cause__)
    said = f"{request.method} {request.url.path[:200]}: {str(error.detail).lower()}"
    return await _refused(request, Refusal(error.status_code, said))


_HANDLERS = {
    Refusal: _refused,
    UsageError: _unusable,
    RequestValidationError: _invalid,
    HTTPException: _unrouted,
    Exception: _failed,
}
