"""A span for every request, in the caller's trace, that tells what it took and not what was said."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from intaglio.engine.output import SamplingParams
from intaglio.errors import MissingExtra, UsageError
from intaglio.server.exchange import Observed
from intaglio.server.traces import Tracing, tracing
from tests.server.stand_in import StandIn, answering

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Route:
    path = "/v1/chat/completions"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """As what is inside: a request of any path but these two is one for a generation."""
    if scope["path"] not in ("/health", "/broken"):
        told = answering(StandIn(), [[4242] * 30], SamplingParams(max_tokens=3, temperature=0.5), choices=2)
        scope["route"], scope["state"]["answering"] = Route, told
    scope["state"]["request_id"] = "abc"
    status = 500 if scope["path"] == "/broken" else 200
    await PlainTextResponse(scope["state"].get("trace", "yes"), status)(scope, receive, send)


class Traced:
    """Requests to `app`, and the spans they gave."""

    def __init__(self) -> None:
        pytest.importorskip("opentelemetry.sdk", reason="needs the extra otel")
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(SimpleSpanProcessor(self.exporter))
        self.trace_ids: list[str | None] = []
        self._client = TestClient(Observed(app, [self.tracing, self]))

    def began(self, exchange: Any) -> None:
        self.trace_ids.append(exchange.trace_id)

    def ended(self, exchange: Any) -> None:
        """Nothing more."""

    def get(self, path: str = "/v1/chat/completions", **headers: str) -> Any:
        """The span of one request."""
        self._client.get(path, headers=headers)
        (span,) = self.exporter.get_finished_spans()
        self.exporter.clear()
        return span


@pytest.fixture
def traced() -> Iterator[Traced]:
    traced = Traced()
    yield traced
    traced.tracing.close()


def test_a_generation_is_a_server_span_with_what_it_took(traced: Traced) -> None:
    span = traced.get()
    assert span.name == "GET /v1/chat/completions"
    assert span.kind.name == "SERVER"
    found = dict(span.attributes)
    assert 0 < found.pop("gen_ai.latency.time_in_queue") < found.pop("gen_ai.latency.time_to_first_token") < 5
    assert found == {
        "http.request.method": "GET",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "intaglio.request_id": "abc",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "intaglio",
        "gen_ai.request.model": "m",
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.max_tokens": 3,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.top_k": 0,
        "gen_ai.request.frequency_penalty": 0.0,
        "gen_ai.request.presence_penalty": 0.0,
        "gen_ai.response.model": "m",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.output_tokens": 6,
    }
    assert "4242" not in span.to_json()


def test_other_requests_are_spans_too(traced: Traced) -> None:
    assert not any(name.startswith("gen_ai") for name in traced.get("/health").attributes)
    broken = traced.get("/broken")
    assert broken.status.status_code.name == "ERROR"
    assert broken.attributes["error.type"] == "500"


def test_it_continues_the_callers_trace(traced: Traced) -> None:
    span = traced.get(traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="vendor=1")
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.context.trace_state.get("vendor") == "1"
    assert traced.trace_ids == [TRACE]


@pytest.mark.parametrize(
    "given", ["", "x", f"00-{TRACE}-{PARENT}", f"00-{'0' * 32}-{PARENT}-01", "00-" * 9999]
)
def test_a_broken_traceparent_begins_a_trace(given: str, traced: Traced) -> None:
    span = traced.get(traceparent=given, tracestate="=,=,;" * 999)
    assert span.parent is None


def test_a_caller_that_does_not_record_is_heeded(traced: Traced) -> None:
    with pytest.raises(ValueError, match="not enough values"):
        traced.get(traceparent=f"00-{TRACE}-{PARENT}-00")
    assert not traced.tracing._spans


def test_its_resource_names_the_service(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    assert traced.get().resource.attributes["service.name"] == "intaglio"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    assert Traced().get().resource.attributes["service.name"] == "mine"


def test_without_an_endpoint_there_is_none() -> None:
    assert tracing(None) is None


@pytest.mark.parametrize("endpoint", ["localhost:4318", "", "file:///x", "http://"])
def test_an_endpoint_is_a_url(endpoint: str) -> None:
    with pytest.raises(UsageError, match="expected http://HOST:4318/v1/traces"):
        tracing(endpoint)


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingExtra, match=r"pip install 'intaglio\[otel\]'"):
        tracing("http://localhost:4318/v1/traces")


def test_a_collector_that_hangs_holds_no_request_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra otel")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")  # so that it sends at once
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with listening() as (port, connected):
        traces = tracing(f"http://127.0.0.1:{port}/v1/traces")
        assert traces is not None
        client = TestClient(Observed(app, [traces]))
        client.get("/health")
        assert connected.wait(10)
        start = time.monotonic()
        for _ in range(5):
            assert client.get("/health").status_code == 200
        assert time.monotonic() - start < 1
    traces.close()


@contextmanager
def listening() -> Iterator[tuple[int, threading.Event]]:
    """A port where connections are taken and nothing is ever answered."""
    connected, held = threading.Event(), []

    def accept() -> None:
        try:
            while True:
                held.append(server.accept()[0])
                connected.set()
        except OSError:
            return  # closed

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], connected
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    for connection in held:
        connection.close()
