"""Connections: kept, counted on, cut off; every failure has its kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from intaglio.errors import UsageError
from intaglio.load import server as module
from intaglio.load.answer import Answer
from intaglio.load.connection import Connection
from intaglio.load.failure import Failure
from intaglio.load.server import Server
from intaglio.load.target import target
from tests.load.fake import END, HEAD, Answering, Asked, Fake, event, part, piece, plain, streaming, usage

BODY = b'{"prompt": "a b", "max_tokens": 3}'


def ask(fake: Fake, times: int = 1, headers: dict[str, str] | None = None) -> list[Answer]:
    """One after another."""

    async def run() -> list[Answer]:
        answers = [Answer() for _ in range(times)]
        with closing(Server(target(fake.url, "/v1/completions"), headers or {})) as server:
            for answer in answers:
                await server.ask(BODY, answer)
        return answers

    return asyncio.run(run())


def saying(*pieces: bytes, pause: float = 0.0) -> Answering:
    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        for data in pieces:
            yield data
            await asyncio.sleep(pause)

    return answer


def failure(answer: Answering) -> str:
    with Fake(answer) as fake, pytest.raises(Failure) as found:
        ask(fake)
    return str(found.value)


def test_headers_and_body_arrive() -> None:
    with Fake(streaming()) as fake:
        (answer,) = ask(fake, headers={"authorization": "Bearer k", "x-a": "b"})
    (asked,) = fake.asked
    assert (asked.method, asked.path, asked.body) == (
        "POST",
        "/v1/completions",
        {"prompt": "a b", "max_tokens": 3},
    )
    assert (asked.headers["authorization"], asked.headers["x-a"]) == ("Bearer k", "b")
    assert asked.headers["content-type"] == "application/json"
    assert len(answer.times) == 3
    assert (answer.status, answer.finish) == (200, "length")


def test_a_stream_in_packets_of_one_byte() -> None:
    stream = (
        HEAD
        + event(piece("zażółć 🦔"))
        + event(piece("!", "stop"))
        + event(usage(3, 5))
        + event("[DONE]")
        + END
    )
    (answer,) = _through(saying(*(stream[i : i + 1] for i in range(len(stream)))))
    assert len(answer.times) == 2
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    (answer,) = _through(saying(head, b'data: {"choices":[{"text":"a"}]}\n\n', b"data: [DONE]\n\n"))
    assert (len(answer.times), answer.ended is None) == (1, False)


def test_a_hundred_continue_is_no_answer() -> None:
    (answer,) = _through(saying(b"HTTP/1.1 100 Continue\r\n\r\n", HEAD, event("[DONE]"), END))
    assert answer.status == 200


def _through(answer: Answering) -> list[Answer]:
    with Fake(answer) as fake:
        return ask(fake)


def test_connections_are_kept_but_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    connects = 0
    plain_connect = Server._connect

    async def connect(self: Server) -> Connection:
        nonlocal connects
        connects += 1
        return await plain_connect(self)

    monkeypatch.setattr(Server, "_connect", connect)
    with Fake(streaming()) as fake:
        ask(fake, times=3)
        assert connects == 1
        monkeypatch.setattr(module, "KEEP", 0.0)
        ask(fake, times=3)
        assert connects == 4


def test_a_connection_the_server_closed_is_not_used_again() -> None:
    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        yield HEAD.replace(b"server:", b"connection: close\r\nserver:")
        yield event("[DONE]")
        yield END

    with Fake(answer) as fake:
        assert len(ask(fake, times=3)) == 3


@pytest.mark.parametrize("cut", [0, 3, len(HEAD), len(HEAD) + 40])
def test_a_connection_cut_anywhere(cut: int) -> None:
    said = failure(saying((HEAD + event(piece("a")))[:cut]))
    assert said.startswith("disconnected: ")


def test_each_failure_has_its_kind() -> None:
    assert failure(saying(plain(503, {"error": {"message": "draining"}}))) == "HTTP 503: draining"
    assert failure(saying(plain(200, {}))) == "no stream: content-type application/json"
    assert failure(saying(b"SMTP ready\r\n\r\n")).startswith("broken HTTP: ")
    assert failure(saying(HEAD, event("{"), END)).startswith("bad JSON: ")
    assert failure(saying(HEAD, part(b"data: {}\n\n"), END)).startswith("disconnected: the stream ended")
    assert failure(saying(HEAD, b"zz\r\n")).startswith("broken HTTP: ")


def test_nobody_there() -> None:
    async def run(url: str) -> None:
        with closing(Server(target(url, "/v1/completions"), {})) as server:
            await server.get("/v1/models")

    with pytest.raises(Failure, match="no connection: connection refused"):
        asyncio.run(run("http://127.0.0.1:1"))
    with pytest.raises(Failure, match=r"no connection: .*(not known|resolution)"):
        asyncio.run(run("http://nowhere.invalid"))


def test_json_for_json_and_no_answer_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(fake: Fake, path: str) -> object:
        with closing(Server(target(fake.url, "/v1/completions"), {})) as server:
            return await server.post(path, {"prompt": "a b", "max_tokens": 1})

    with Fake(saying(HEAD, event("[DONE]"), END, pause=0.3)) as fake:
        assert asyncio.run(run(fake, "/tokenize")) == {"tokens": [1, 97, 98]}
        with pytest.raises(Failure, match="HTTP 404: Not Found"):
            asyncio.run(run(fake, "/nothing"))
        with pytest.raises(Failure, match="bad JSON"):
            asyncio.run(run(fake, "/v1/completions"))
        monkeypatch.setattr(module, "LARGEST", 3)
        with pytest.raises(Failure, match="an answer of more than 3 bytes"):
            asyncio.run(run(fake, "/tokenize"))
        monkeypatch.setattr(module, "PATIENCE", 0.1)
        with pytest.raises(Failure, match=r"timeout: no answer to /v1/completions in 0\.1 s"):
            asyncio.run(run(fake, "/v1/completions"))


def test_a_header_that_cannot_be_sent() -> None:
    with Fake(streaming()) as fake:
        for value in ("a\nb", "ż"):
            with pytest.raises(UsageError, match="the URL or a header cannot be sent"):
                ask(fake, headers={"x": value})
    assert not fake.asked
