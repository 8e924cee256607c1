"""One line for every request, whatever a stranger writes into it."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.testclient import TestClient

from intaglio.engine.output import SamplingParams
from intaglio.errors import UsageError
from intaglio.server import logs
from intaglio.server.exchange import Observed
from intaglio.server.logs import AccessLog, configure
from tests.server.stand_in import StandIn, answering

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) ")
Logged = Callable[[], list[str]]


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Iterator[Logged]:
    """The lines that went to standard error; loggers are as before afterwards."""
    loggers = [logging.getLogger(name) for name in logs.SOURCES]
    before = [(one.handlers, one.propagate, one.level) for one in loggers]
    yield lambda: capsys.readouterr().err.splitlines()
    for one, (one.handlers, one.propagate, level) in zip(loggers, before, strict=True):
        one.setLevel(level)


async def respond(scope: Any, receive: Any, send: Any) -> None:
    """As the guard: gives the request its id."""
    scope["state"]["request_id"] = "abc"
    await PlainTextResponse("yes", 200 if scope["path"] != "/bad" else 503)(scope, receive, send)


def ask(path: str = "/v1/models", app: Any = respond, **asked: Any) -> None:
    TestClient(Observed(app, [AccessLog()])).get(path, **asked)


def test_a_request_is_one_line_of_json(logged: Logged) -> None:
    configure("json", "info")
    ask()
    (line,) = logged()
    said = json.loads(line)
    assert said.pop("seconds") < 5
    assert LINE.match(said.pop("time") + " INFO ")
    assert said == {
        "level": "info",
        "logger": "intaglio.server",
        "message": "request",
        "request_id": "abc",
        "client": "testclient",
        "method": "GET",
        "path": "/v1/models",
        "status": 200,
    }


def test_and_one_line_of_text(logged: Logged) -> None:
    configure("text", "info")
    ask("/bad")
    (line,) = logged()
    assert LINE.match(line)[1] == "WARNING"  # type: ignore[index]
    assert "request request_id=abc client=testclient method=GET path=/bad status=503 seconds=" in line


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_a_stranger_writes_forges_no_line(form: str, logged: Logged) -> None:
    configure(form, "info")
    forged = "2026-01-01T00:00:00.000Z INFO all is well"
    hostile = f'/x\n{forged}\r{forged}\u2028{forged}\x85\x1b[31m\u202e\ud800"}} status=200'

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["path"], scope["method"], scope["client"] = hostile, f"GET\n{forged}", (f"::1\n{forged}", 1)
        await respond(scope, receive, send)

    ask(app=app)
    try:
        raise ValueError(f"bad\n{forged}\u2028{forged}\r{forged}\x1b[2J")
    except ValueError as error:
        logging.getLogger("intaglio.server").error("of %s", hostile, exc_info=error)
    lines = logged()
    assert sum(bool(LINE.match(line) or line.startswith("{")) for line in lines) == 2
    assert all(LINE.match(line) or line.startswith(("{", "    ")) for line in lines)
    assert all(character.isprintable() for line in lines for character in line)
    if form == "json":
        assert json.loads(lines[0])["path"] == hostile
        assert json.loads(lines[1])["exception"].startswith("Traceback")
    else:
        assert lines[0].count(" status=200") == 2  # the forged one is inside quotes
        assert re.search(r'path="/x\\n.*status=200" status=200', lines[0])


def test_a_path_is_cut(logged: Logged) -> None:
    configure("json", "info")
    ask("/" + "x" * 10_000)
    assert len(logged()[0]) < 600


def test_a_generation_tells_what_it_took_and_nothing_of_what_was_said(logged: Logged) -> None:
    configure("json", "info")
    told = answering(StandIn(), [[4242] * 30, [4242] * 12], SamplingParams(max_tokens=3), choices=2)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["answering"] = told
        await respond(scope, receive, send)

    ask(
        app=app,
        headers={"authorization": "Bearer sk-secret", "user-agent": "secret"},
        params={"key": "secret"},
    )
    line = logged()[0]
    said = json.loads(line)
    assert said["model"] == "m"
    assert (said["prompt_tokens"], said["cached_tokens"], said["output_tokens"]) == (42, 8, 12)
    assert said["finish_reasons"] == ["length"]
    assert 0 <= said["queued"] <= said["ttft"] < 5
    assert "secret" not in line
    assert "4242" not in line


def test_a_client_that_leaves_is_told_from_one_that_stays(logged: Logged) -> None:
    configure("json", "info")

    async def leaves(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()

    async def stays(scope: Any, receive: Any, send: Any) -> None:
        async def pieces() -> Any:
            yield b"a"
            yield b"b"

        await StreamingResponse(pieces())(scope, receive, send)

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        raise AssertionError(message)

    messages = [{"type": "http.request"}, {"type": "http.disconnect"}]
    scope = {"type": "http", "method": "POST", "path": "/"}
    asyncio.run(Observed(leaves, [AccessLog()])(scope, receive, send))
    ask(app=stays)
    gone, stayed = map(json.loads, logged())
    assert (gone["status"], gone["client_gone"]) == (499, True)
    assert stayed["status"] == 200
    assert "client_gone" not in stayed


def test_a_piece_that_cannot_be_sent_means_that_the_client_left(logged: Logged) -> None:
    configure("json", "info")

    async def send(message: Any) -> None:
        raise OSError("broken pipe")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(OSError, match="broken pipe"):
            await send({"type": "http.response.start", "status": 200, "headers": []})

    scope = {"type": "http", "method": "GET", "path": "/"}
    asyncio.run(Observed(app, [AccessLog()])(scope, send, send))  # type: ignore[arg-type]
    said = json.loads(logged()[0])
    assert (said["status"], said["client_gone"]) == (499, True)


def test_uvicorn_and_asyncio_come_through_it(logged: Logged) -> None:
    configure("json", "warning")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    logging.getLogger("uvicorn.error").info("Waiting for connections to close.")
    logging.getLogger("asyncio").error("Task exception was never retrieved")
    assert [json.loads(line)["logger"] for line in logged()] == ["uvicorn.error", "asyncio"]


def test_configuring_again_replaces(logged: Logged) -> None:
    configure("json", "info")
    configure("text", "info")
    ask()
    (line,) = logged()
    assert LINE.match(line)


def test_forms_and_levels_are_named() -> None:
    with pytest.raises(UsageError, match="'xml', expected text or json"):
        configure("xml", "info")
    with pytest.raises(UsageError, match="'loud', expected one of debug"):
        configure("text", "loud")
