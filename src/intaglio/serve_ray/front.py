"""The front: what clients talk to. It passes requests on to replicas, and on to another when one is lost."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from intaglio.serve_ray import affinity
from intaglio.serve_ray.answer import Call, Whole
from intaglio.serve_ray.gathered import gathered
from intaglio.serve_ray.relay import Relay
from intaglio.server.json_answer import JsonAnswer
from intaglio.server.refusal import Refusal
from intaglio.server.sse import Gone, until_gone

log = logging.getLogger("intaglio.server")
LIVES = 3  # of a request: how many replicas may be lost over it before it counts as the cause
PATIENCE = 5.0  # seconds in which all replicas must say how they are
PASSED_ON = (b"content-type", b"accept", b"traceparent", b"tracestate")


class Front:
    """An ASGI application; `replicas` is the handle of their deployment."""

    def __init__(self, replicas: Any) -> None:
        self._replicas = replicas
        self._answers = replicas.options(method_name="answer", stream=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close"})
        elif (scope["method"], scope["path"]) == ("GET", "/health"):
            await self._health(scope, receive, send)
        elif (scope["method"], scope["path"]) == ("GET", "/metrics"):
            await self._metrics(scope, receive, send)
        else:
            await self._pass_on(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body(receive) if scope["method"] == "POST" else b""
        headers = [(name, value) for name, value in scope["headers"] if name in PASSED_ON]
        headers.append((b"x-request-id", scope["state"]["request_id"].encode()))
        call = Call(scope["method"], scope["path"], scope["query_string"], tuple(headers), body)
        await until_gone(receive, self._answer(call, Relay(send)))

    async def _answer(self, call: Call, relay: Relay) -> None:
        answers = self._answers.options(session_id=affinity.key(call.path, call.body))
        for _ in range(LIVES):
            try:
                await _relayed(answers.remote(call), relay)
                return
            except BackPressureError:
                raise _busy() from None
            except DeploymentUnavailableError:
                raise _unavailable() from None
            except RayError as error:
                _note(call, error)
                if relay.begun:
                    await relay.break_off(_lost("the replica that answered was lost"))
                    return
                if isinstance(error, RayTaskError):
                    raise  # a fault of ours, that another replica has as well
        raise _lost(f"{LIVES} times the replica that was to answer was lost")

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        answers = await self._all(Call("GET", "/health"))
        if not any(answer.head.status == 200 for answer in answers.values()):
            raise _unavailable()
        await JsonAnswer({"status": "ok"})(scope, receive, send)

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        answers = await self._all(Call("GET", "/metrics"))
        text = gathered({name: answer.body.decode() for name, answer in answers.items()})
        await PlainTextResponse(text, media_type="text/plain; version=0.0.4")(scope, receive, send)

    async def _all(self, call: Call) -> dict[str, Whole]:
        """What each replica answers, by its name; of those that do not, nothing."""
        try:
            asked = self._replicas.broadcast("whole", call)
            answers = await asked.results_async(timeout_s=PATIENCE, return_exceptions=True)
        except (TimeoutError, DeploymentUnavailableError):
            return {}
        return dict(answer for answer in answers if not isinstance(answer, BaseException))


async def _relayed(answer: Any, relay: Relay) -> None:
    try:
        async for part in answer:
            await relay.take(part)
    except asyncio.CancelledError:
        answer.cancel()  # the replica's pages are free then
        raise
    await relay.end()


async def _body(receive: Receive) -> bytes:
    """Whole; the guard bounds it. Raises Gone when the client leaves before its end."""
    pieces = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


async def _live(receive: Receive, send: Send) -> None:
    """Nothing is to be started or ended here."""
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})


def _note(call: Call, error: RayError) -> None:
    fields = {
        "request_id": dict(call.headers)[b"x-request-id"].decode(),
        "error": str(error).partition("\n")[0],
    }
    log.warning("a request was lost with its replica", extra={"fields": fields})


def _lost(sentence: str) -> Refusal:
    return Refusal(502, sentence, code="replica_lost")


def _busy() -> Refusal:
    return Refusal(429, "all replicas are busy, and others wait: try later", code="queue_full", retry_after=5)


def _unavailable() -> Refusal:
    return Refusal(503, "no replica is ready: try again later", code="no_replica", retry_after=5)
