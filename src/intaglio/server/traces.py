"""Traces: a span for every request, sent to an OpenTelemetry collector beside the work.

Spans continue the trace of a caller that sends `traceparent`. Their attributes are OpenTelemetry's for HTTP
servers and generative AI, and vLLM's for seconds; what was asked or answered is never in them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import intaglio
from intaglio.errors import MissingExtra, UsageError
from intaglio.server.exchange import Exchange
from intaglio.server.spent import Spent

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from intaglio.server.answering import Answering

OPERATIONS = {"chatcmpl": "chat", "cmpl": "text_completion"}  # by what the id of an answer begins with
CARRIED = (b"traceparent", b"tracestate")


def tracing(endpoint: str | None) -> Tracing | None:
    """Traces to a collector's OTLP over HTTP, such as http://localhost:4318/v1/traces; None: no traces.

    Raises MissingExtra where OpenTelemetry is not installed, UsageError for what is no URL.
    """
    if endpoint is None:
        return None
    url = urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise UsageError(f"the endpoint of traces is {endpoint!r}, expected http://HOST:4318/v1/traces")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise MissingExtra(str(error.name), "otel") from None
    # its own thread sends; when it cannot keep up spans are dropped, and no request waits
    return Tracing(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))


class Tracing:
    """An `Observer`: every exchange is a span. Nothing of it is global; OTEL_* variables are heeded."""

    def __init__(self, processor: SpanProcessor) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        name = os.environ.get("OTEL_SERVICE_NAME", "intaglio")
        resource = Resource.create({"service.name": name, "service.version": intaglio.__version__})
        self._provider = TracerProvider(resource=resource)  # sends what it has at the end of the process
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("intaglio.server", intaglio.__version__)
        self._callers = TraceContextTextMapPropagator()
        self._spans: dict[Exchange, Span] = {}

    def began(self, exchange: Exchange) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind, format_trace_id

        headers = {
            name.decode(): value.decode("latin-1")
            for name, value in exchange.scope["headers"]
            if name in CARRIED
        }
        caller = self._callers.extract(headers, Context())
        span = self._tracer.start_span(exchange.method, caller, SpanKind.SERVER)
        exchange.trace_id = format_trace_id(span.get_span_context().trace_id)
        self._spans[exchange] = span

    def ended(self, exchange: Exchange) -> None:
        from opentelemetry.trace import StatusCode

        span = self._spans.pop(exchange)
        span.update_name(f"{exchange.method} {exchange.route}")
        span.set_attributes(_http(exchange))
        if exchange.answering is not None:
            span.set_attributes(_generation(exchange.answering))
        if exchange.status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end()

    def close(self) -> None:
        """Send what there is, and end."""
        self._provider.shutdown()


def _http(exchange: Exchange) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {
        "http.request.method": exchange.method,
        "http.route": exchange.route,
        "http.response.status_code": exchange.status,
        "url.scheme": exchange.scope["scheme"],
    }
    if exchange.status >= 500:
        found["error.type"] = str(exchange.status)
    if exchange.request_id is not None:
        found["intaglio.request_id"] = exchange.request_id
    if exchange.gone:
        found["intaglio.client_gone"] = True
    return found


def _generation(answering: Answering) -> dict[str, AttributeValue]:
    spent = Spent.of(answering)
    found: dict[str, AttributeValue] = {
        "gen_ai.operation.name": OPERATIONS[answering.kind],
        "gen_ai.provider.name": "intaglio",
        "gen_ai.request.model": spent.model,
        "gen_ai.request.choice.count": answering.choices,
        "gen_ai.response.model": spent.model,
        "gen_ai.response.id": answering.id,
        "gen_ai.response.finish_reasons": spent.finish_reasons,
        "gen_ai.usage.input_tokens": spent.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": spent.cached_tokens,
        "gen_ai.usage.output_tokens": spent.output_tokens,
    }
    if spent.queued is not None:
        found["gen_ai.latency.time_in_queue"] = spent.queued
    if spent.first_token is not None:
        found["gen_ai.latency.time_to_first_token"] = spent.first_token
    return found | _asked(answering)


def _asked(answering: Answering) -> dict[str, AttributeValue]:
    """How the first of its answers was to be drawn; the others differ in their seeds."""
    if not answering.generations:
        return {}
    params = answering.generations[0].request.params
    return {
        "gen_ai.request.max_tokens": params.max_tokens,
        "gen_ai.request.temperature": params.temperature,
        "gen_ai.request.top_p": params.top_p,
        "gen_ai.request.top_k": params.top_k,
        "gen_ai.request.frequency_penalty": params.frequency_penalty,
        "gen_ai.request.presence_penalty": params.presence_penalty,
    }
