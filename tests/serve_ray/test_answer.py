"""A request through an application without a socket: whole, in pieces, and given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from intaglio.serve_ray.answer import Answer, Call, Head

pytestmark = pytest.mark.anyio
JSON = ((b"content-type", b"application/json"),)


async def echo(request: Request) -> Response:
    seen = [request.method, request.scope["path"], request.url.query, request.headers["content-type"]]
    return JSONResponse([*seen, (await request.body()).decode()], status_code=201)


async def count(request: Request) -> Response:
    async def numbers() -> AsyncIterator[str]:
        for number in range(3):
            yield f"{number}\n"

    return StreamingResponse(numbers())


APP = Starlette(routes=[Route("/a/{rest:path}", echo, methods=["POST"]), Route("/count", count)])


async def test_all_of_a_request_arrives() -> None:
    answer = await Answer(APP, Call("POST", "/a/b c", b"q=1", JSON, b"body")).whole()
    assert answer.head.status == 201
    assert dict(answer.head.headers)[b"content-type"] == b"application/json"
    assert answer.body == b'["POST","/a/b c","q=1","application/json","body"]'


async def test_pieces_come_as_they_are_sent() -> None:
    head, *pieces = [part async for part in Answer(APP, Call("GET", "/count"))]
    assert isinstance(head, Head)
    assert head.status == 200
    assert pieces == [b"0\n", b"1\n", b"2\n"]


async def test_leaving_is_a_disconnect() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["body"] == b"asked"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        seen.append((await receive())["type"])

    parts = aiter(Answer(app, Call("POST", "/", body=b"asked")))
    assert await anext(parts) == Head(200, ())
    assert await anext(parts) == b"first"
    assert not seen
    await parts.aclose()  # type: ignore[attr-defined]
    assert seen == ["http.disconnect"]


async def test_being_cancelled_is_a_disconnect() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        seen.append((await receive())["type"])

    task = asyncio.ensure_future(Answer(app, Call("GET", "/")).whole())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["http.disconnect"]


async def test_an_application_that_fails_fails_its_answer() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await Answer(app, Call("GET", "/")).whole()
