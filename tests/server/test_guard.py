"""What stands between a socket and the routes."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from intaglio.server import connection, guard
from intaglio.server.settings import Limits, Settings
from tests.server.serving import Running, serving

ASK = {"model": "tiny", "prompt": "abc", "max_tokens": 2}


def refused(answer: httpx.Response, status: int) -> dict[str, object]:
    """The error's body, which names neither paths nor code."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    return error


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"n": 1000}, "n"),
        ({"stop": ["a"] * 100}, "stop"),
        ({"stop": "x" * 1000}, "stop"),
        ({"logit_bias": {str(i): 1 for i in range(3000)}}, "logit_bias"),
        ({"logit_bias": {"68": 1000}}, "logit_bias"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"top_p": 0}, "top_p"),
        ({"timeout": 0}, "timeout"),
    ],
    ids=str,
)
def test_a_field_out_of_bounds_is_named(client: httpx.Client, change: dict[str, object], param: str) -> None:
    error = refused(client.post("/v1/completions", json={**ASK, **change}), 400)
    assert str(error["param"]).split(".")[0] == param


def test_tokens_outside_the_vocabulary(client: httpx.Client) -> None:
    error = refused(client.post("/v1/completions", json={**ASK, "prompt": [10**6]}), 400)
    assert "vocabulary" in str(error["message"])


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"prompt": "\\ud800"}', b"\xff\xfe", b"null"])
def test_a_body_that_is_no_request(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    refused(answer, 400)


def test_a_form_is_no_json(client: httpx.Client) -> None:
    refused(client.post("/v1/completions", data={"prompt": "a"}), 415)


def test_unknown_paths_and_methods(client: httpx.Client) -> None:
    refused(client.get("/v1/nothing"), 404)
    refused(client.get("/v1/completions"), 405)


def test_the_request_id_comes_back_unless_it_is_hostile(client: httpx.Client) -> None:
    assert client.get("/health", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    given = client.get("/health", headers={"x-request-id": "a b; forged"}).headers["x-request-id"]
    assert given != "a b; forged"
    assert len(given) == 16


def test_another_name_for_this_machine_is_refused(client: httpx.Client) -> None:
    refused(client.get("/v1/models", headers={"host": "evil.example"}), 403)


def test_keys(tiny: Path) -> None:
    settings = Settings(port=0, api_keys=("first", "second"))
    with serving(tiny, settings) as running, httpx.Client(base_url=running.url) as client:
        refused(client.get("/v1/models"), 401)
        refused(client.get("/v1/models", headers={"authorization": "Bearer wrong"}), 401)
        for key in settings.api_keys:
            answer = client.get("/v1/models", headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == 200
        assert client.get("/health").status_code == 200


def test_every_key_is_compared_though_the_first_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long an answer takes must not tell which key was right."""
    compared: list[bytes] = []

    def compare(given: bytes, key: bytes) -> bool:
        compared.append(key)
        return given == key

    async def let_in(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("in")(scope, receive, send)

    monkeypatch.setattr(guard.hmac, "compare_digest", compare)
    client = TestClient(guard.Guard(let_in, Settings(api_keys=("first", "second"))))
    assert client.get("/v1/models", headers={"authorization": "Bearer first"}).text == "in"
    assert compared == [b"first", b"second"]


def test_a_large_body_is_refused_before_it_is_read(tiny: Path) -> None:
    settings = Settings(port=0, limits=Limits(body_bytes=1000))
    with serving(tiny, settings) as running, httpx.Client(base_url=running.url) as client:
        refused(client.post("/v1/completions", json={**ASK, "prompt": "a" * 2000}), 413)
        chunks = (b" " * 300 for _ in range(10))  # without a length: counted as it comes
        headers = {"content-type": "application/json"}
        refused(client.post("/v1/completions", content=chunks, headers=headers), 413)


def test_a_slow_body_is_cut_off(tiny: Path) -> None:
    settings = Settings(port=0, limits=Limits(body_seconds=0.3))
    with serving(tiny, settings) as running, raw(running) as sock:
        sock.sendall(
            b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: 100\r\n\r\n{"
        )
        assert b" 408 " in sock.recv(4096).splitlines()[0]


def test_a_head_that_trickles_in_is_cut_off(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    with serving(tiny) as running, raw(running) as sock:
        start = time.monotonic()
        sock.sendall(b"GET /health HTTP/1.1\r\nhost: ")
        assert sock.recv(4096) == b""
        assert time.monotonic() - start < 5


def test_a_head_without_end_is_cut_off(running: Running) -> None:
    def filled(sock: socket.socket) -> bool:
        """Whether two megabytes of it were taken."""
        try:
            for _ in range(2000):
                sock.sendall(b"x-filler: " + b"a" * 1000 + b"\r\n")
            return sock.recv(4096) != b""
        except OSError:
            return False

    with raw(running) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\n")
        assert not filled(sock)


def raw(running: Running) -> socket.socket:
    """A bare connection."""
    host, port = running.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)
