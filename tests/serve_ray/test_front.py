"""What clients see when replicas are lost: another one's answer, or an error where one had begun."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

pytest.importorskip("ray.serve", reason="ray[serve] is not installed", exc_type=ImportError)

from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from intaglio.serve_ray.answer import Call, Head, Whole
from intaglio.serve_ray.front import LIVES, Front
from intaglio.serve_ray.ingress import guarded
from intaglio.serve_ray.relay import ROLE
from intaglio.server.settings import Limits, Settings
from intaglio.server.sse import Gone

pytestmark = pytest.mark.anyio
JSON = {"content-type": "application/json"}
STREAM = Head(200, ((b"content-type", b"text/event-stream"),))
WHOLE = Head(200, ((b"content-type", b"application/json"),))
OPENING = b'data: {"choices":[{"delta":' + ROLE + b"}]}\n\n"
WORD, END = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', b"data: [DONE]\n\n"
OPEN = Settings(host="0.0.0.0")
KEYED = Settings(host="0.0.0.0", api_keys=("secret",), limits=Limits(body_bytes=1000))
Parts = list[Head | bytes | Exception]


class Replicas:
    """Stands for a handle: requests take, in turn, what a replica says until it is done or lost."""

    def __init__(self, *scripts: Parts, healths: tuple[int | Exception, ...] = ()) -> None:
        self.scripts = list(scripts)
        self.healths = healths
        self.calls: list[Call] = []
        self.keys: list[str] = []

    def options(self, *, session_id: str | None = None, **fixed: Any) -> Replicas:
        assert not fixed or fixed == {"method_name": "answer", "stream": True}
        if session_id is not None:
            self.keys.append(session_id)
        return self

    def remote(self, call: Call) -> AsyncIterator[Head | bytes]:
        self.calls.append(call)
        return _said(self.scripts.pop(0))

    def broadcast(self, method: str, call: Call) -> Any:
        assert method == "whole"
        self.calls.append(call)
        return self

    async def results_async(self, *, timeout_s: float, return_exceptions: bool) -> list[Any]:
        assert return_exceptions
        if not self.healths:
            raise DeploymentUnavailableError("none")
        return [
            one if isinstance(one, Exception) else (f"r{index}", Whole(Head(one, ()), b"up 1\n"))
            for index, one in enumerate(self.healths)
        ]


async def _said(parts: Parts) -> AsyncIterator[Head | bytes]:
    for part in parts:
        if isinstance(part, Exception):
            raise part
        yield part


Client = Callable[..., httpx.AsyncClient]


@pytest.fixture
def client() -> Iterator[Client]:
    def made(replicas: Replicas, settings: Settings = OPEN, prefix: str = "") -> Any:
        app = guarded(replicas, settings)
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app, root_path=prefix),
            base_url=f"http://host{prefix}",
            headers=JSON,
        )

    return made


async def ask(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/v1/completions", json={"prompt": "a"})


@pytest.mark.parametrize(
    "lost",
    [
        [],
        [WHOLE],
        [WHOLE, b'{"half'],
        [STREAM],
        [STREAM, OPENING],
        [STREAM, OPENING, OPENING],
    ],
    ids=["at once", "after the head", "in a whole answer", "a stream", "after the role", "after the roles"],
)
async def test_nothing_was_shown_so_another_replica_answers(client: Client, lost: Parts) -> None:
    for answer in ([WHOLE, b'{"b":', b"1}"], [STREAM, OPENING, WORD, END]):
        replicas = Replicas([*lost, ActorDiedError()], list(answer))
        response = await ask(client(replicas))
        assert response.status_code == 200
        assert response.content == b"".join(part for part in answer if isinstance(part, bytes))
        assert replicas.calls[0] == replicas.calls[1]


async def test_a_stream_that_had_begun_ends_with_an_error_event(client: Client) -> None:
    replicas = Replicas([STREAM, OPENING, WORD, ActorDiedError()])
    response = await ask(client(replicas))
    assert response.status_code == 200
    assert response.content.startswith(OPENING + WORD)
    error, done = response.content.removeprefix(OPENING + WORD).strip().split(b"\n\n")
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "replica_lost"
    assert done == b"data: [DONE]"
    assert len(replicas.calls) == 1


async def test_a_request_that_kills_replicas_is_given_up(client: Client) -> None:
    replicas = Replicas(*([ActorDiedError()] for _ in range(LIVES)))
    response = await ask(client(replicas))
    assert response.status_code == 502
    assert response.json()["error"]["code"] == "replica_lost"
    assert not replicas.scripts


async def test_a_request_has_one_id_everywhere(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    replicas = Replicas([ActorDiedError()], [WHOLE, b"{}"])
    sent = {"x-request-id": "not; allowed"}
    await client(replicas).post("/v1/completions", json={"prompt": "a"}, headers=sent)
    given = {dict(call.headers)[b"x-request-id"].decode() for call in replicas.calls}
    noted = {record.fields["request_id"] for record in caplog.records}  # type: ignore[attr-defined]
    assert noted == given
    assert len(given) == 1
    assert "not; allowed" not in given


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BackPressureError(num_queued_requests=9, max_queued_requests=9), 429, "queue_full"),
        (DeploymentUnavailableError("none"), 503, "no_replica"),
        (RuntimeError("a bug"), 500, "internal_error"),
        (RayTaskError("answer", "its traceback", RuntimeError("a bug")), 500, "internal_error"),
    ],
    ids=["full", "none", "a bug here", "a bug there"],
)
async def test_what_else_goes_wrong_is_said_in_openais_form(
    client: Client, error: Exception, status: int, code: str
) -> None:
    response = await ask(client(Replicas([error])))
    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert ("retry-after" in response.headers) == (status != 500)


async def test_a_refusal_of_a_replica_is_passed_on(client: Client) -> None:
    head = Head(404, ((b"content-type", b"application/json"), (b"retry-after", b"7")))
    response = await ask(client(Replicas([head, b'{"error":{}}'])))
    assert (response.status_code, response.headers["retry-after"]) == (404, "7")
    assert response.json() == {"error": {}}


async def test_replicas_get_the_request_but_no_keys(client: Client) -> None:
    replicas = Replicas([WHOLE, b"{}"])
    sent = {"authorization": "Bearer secret", "x-request-id": "mine", "cookie": "a=b"}
    await client(replicas, KEYED, "/llm").post(
        "/v1/completions?q=1", content=b'{"prompt": "a"}', headers=sent
    )
    (call,) = replicas.calls
    assert (call.method, call.path, call.query, call.body) == (
        "POST", "/v1/completions", b"q=1", b'{"prompt": "a"}',
    )  # fmt: skip
    headers = dict(call.headers)
    assert (headers[b"content-type"], headers[b"x-request-id"]) == (b"application/json", b"mine")
    assert not headers.keys() & {b"authorization", b"cookie", b"host"}
    assert replicas.keys != [""]


@pytest.mark.parametrize("prefix", ["", "/llm"])
async def test_without_a_key_nothing_reaches_a_replica(client: Client, prefix: str) -> None:
    replicas = Replicas()
    asking = client(replicas, KEYED, prefix)
    assert (await ask(asking)).status_code == 401
    assert (await asking.get("/v1/models", headers={"authorization": "Bearer wrong"})).status_code == 401
    asking.headers["authorization"] = "Bearer secret"
    assert (await asking.post("/v1/completions", json={"prompt": "a" * 1000})).status_code == 413
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert (await asking.post("/v1/completions", content="a=b", headers=form)).status_code == 415
    assert not replicas.calls


@pytest.mark.parametrize(
    ("healths", "status"),
    [((200, 200), 200), ((503, 200), 200), ((ActorDiedError(), 200), 200), ((503, 503), 503), ((), 503)],
    ids=str,
)
async def test_health_is_that_of_the_best(
    client: Client, healths: tuple[int | Exception, ...], status: int
) -> None:
    assert (await client(Replicas(healths=healths), KEYED).get("/health")).status_code == status


async def test_metrics_are_those_of_all(client: Client) -> None:
    response = await client(Replicas(healths=(200, ActorDiedError(), 200))).get("/metrics")
    assert response.text == 'up{replica="r0"} 1\nup{replica="r2"} 1\n'
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_half_a_body_is_not_a_request() -> None:
    replicas = Replicas()
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": [], "state": {}}
    with pytest.raises(Gone):
        await Front(replicas)(scope, receive, None)  # type: ignore[arg-type]
    assert not replicas.calls


async def test_websockets_are_refused() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await Front(Replicas())({"type": "websocket"}, None, send)  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close"}]
