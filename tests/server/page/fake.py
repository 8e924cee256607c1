"""A small server of the page's contract with scripted answers, on a port of its own."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from intaglio.server.assets import routes

SMALL, LARGE = "smollm2-135m-qserve", "smollm2-135m"
META = {
    LARGE: {"bytes": 268_500_000, "bits_per_weight": 16.0, "kv_bits": 16, "runtime": "cpu"},
    SMALL: {"bytes": 84_100_000, "bits_per_weight": 4.52, "kv_bits": 4, "runtime": "cpu"},
}


@dataclass
class Script:
    """What the server does next, and what it was asked.

    `answers`: pieces by model; `every`: those of the other models. `pause`: seconds before each piece.
    `cut`: the connection breaks after so many pieces; `mute`: no [DONE] ends it. `broken`: an error event
    after the pieces.
    `refuse`: status and message instead of an answer.
    """

    answers: dict[str, list[str]] = field(default_factory=dict)
    every: list[str] = field(default_factory=lambda: ["Hello", "."])
    pause: float = 0.0
    cut: int | None = None
    mute: bool = False
    broken: str | None = None
    refuse: tuple[int, str] | None = None
    retry_after: str | None = None
    finish: str = "stop"
    key: str | None = None
    meta: dict[str, dict[str, Any]] = field(default_factory=lambda: dict(META))
    load: dict[str, Any] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    polls: int = 0
    left: int = 0  # answers that nobody read to the end


class Fake:
    """The application; `script` may be replaced between requests."""

    def __init__(self) -> None:
        self.script = Script()
        endpoints = [
            Route("/v1/models", self.models),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/stats", self.stats),
        ]
        self.app = Starlette(routes=[*routes(), *endpoints])

    async def models(self, request: Request) -> Response:
        model = {"object": "model", "created": 1_700_000_000, "owned_by": "intaglio", "max_model_len": 8192}
        data = [{"id": name, **model, "meta": meta} for name, meta in self.script.meta.items()]
        return self._refusal(request) or JSONResponse({"object": "list", "data": data})

    async def stats(self, request: Request) -> Response:
        self.script.polls += 1
        idle = {"running": 0, "waiting": 0, "kv_cache_usage": 0.0, "kv_pages": 512, "tokens_per_second": 0.0}
        models = [{"id": name, **idle, **self.script.load} for name in self.script.meta]
        return self._refusal(request) or JSONResponse({"models": models, "uptime_seconds": 12.5})

    async def chat(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        script, body = self.script, await request.json()
        script.asked.append(body)
        if script.refuse:
            status, message = script.refuse
            return JSONResponse(
                error(message), status, {"retry-after": script.retry_after} if script.retry_after else {}
            )
        return StreamingResponse(self._stream(script, body["model"]), media_type="text/event-stream")

    async def _stream(self, script: Script, model: str) -> AsyncIterator[bytes]:
        whole = False
        try:
            async for data in self._chunks(script, script.answers.get(model, script.every)):
                yield b"data: " + json.dumps(data).encode() + b"\n\n"
            if not script.mute:
                yield b"data: [DONE]\n\n"
            whole = True
        finally:
            script.left += not whole

    async def _chunks(self, script: Script, pieces: list[str]) -> AsyncIterator[dict[str, Any]]:
        yield choice({"role": "assistant"})
        for number, piece in enumerate(pieces):
            await asyncio.sleep(script.pause)
            if number == script.cut:
                raise ConnectionResetError  # the response ends without its last chunk
            yield choice({"content": piece})
        if script.broken:
            yield error(script.broken)
            return
        yield choice({}, script.finish)
        usage = {"prompt_tokens": 9, "completion_tokens": len(pieces), "total_tokens": 9 + len(pieces)}
        yield {"choices": [], "usage": {**usage, "prompt_tokens_details": {"cached_tokens": 0}}}

    def _refusal(self, request: Request) -> Response | None:
        if self.script.key is None or request.headers.get("authorization") == f"Bearer {self.script.key}":
            return None
        return JSONResponse(error("a key is needed"), 401)


def choice(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    """A chunk of a stream."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def error(message: str) -> dict[str, Any]:
    """An error as OpenAI writes it."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """The application in a thread; gives its address."""
    config = uvicorn.Config(app, port=0, log_level="critical", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
