"""Logs: a line for every request and for what went wrong, as text or JSON; never what was asked."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from intaglio.errors import UsageError
from intaglio.server.exchange import Exchange
from intaglio.server.spent import Spent

Form = Literal["text", "json"]
LEVELS = ("debug", "info", "warning", "error")
SOURCES = ("intaglio.server", "uvicorn.error", "asyncio", "opentelemetry")  # whose records come here
PATH = 200  # characters of a path that are shown
PLAIN = re.compile(r"[\w./:@+-]+", re.ASCII)  # a value that needs no quotes
log = logging.getLogger("intaglio.server")


def configure(form: Form | str = "text", level: str = "info") -> None:
    """Send what the server and its libraries log to standard error; a second call replaces the first."""
    if form not in _FORMS:
        raise UsageError(f"the form of logs is {form!r}, expected {' or '.join(get_args(Form))}")
    if level not in LEVELS:
        raise UsageError(f"the level of logs is {level!r}, expected one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMS[form]())
    for name in SOURCES:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level.upper())


class AccessLog:
    """An `Observer`: one line for every request, when it is over."""

    def began(self, exchange: Exchange) -> None:
        """Nothing is known yet."""

    def ended(self, exchange: Exchange) -> None:
        level = logging.WARNING if exchange.status >= 500 else logging.INFO
        if log.isEnabledFor(level):
            log.log(level, "request", extra={"fields": _fields(exchange)})


def _fields(exchange: Exchange) -> dict[str, Any]:
    """What is told of it, in this order; what is not known is left out."""
    client = exchange.scope.get("client")
    fields = {
        "request_id": exchange.request_id,
        "trace_id": exchange.trace_id,
        "client": client and client[0],
        "method": exchange.scope["method"],
        "path": exchange.path[:PATH],
        "status": exchange.status,
        "seconds": _seconds(exchange.seconds),
        "client_gone": exchange.gone or None,
    }
    if exchange.answering is not None:
        fields |= _spent(Spent.of(exchange.answering))
    return {name: value for name, value in fields.items() if value is not None}


def _spent(spent: Spent) -> dict[str, Any]:
    return {
        "model": spent.model,
        "prompt_tokens": spent.prompt_tokens,
        "cached_tokens": spent.cached_tokens,
        "output_tokens": spent.output_tokens,
        "queued": _seconds(spent.queued),
        "ttft": _seconds(spent.first_token),
        "finish_reasons": list(spent.finish_reasons),
    }


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


class _Text(logging.Formatter):
    """`time LEVEL message name=value …`: printable characters only, and nothing else starts a line."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = [f"{name}={_quoted(value)}" for name, value in _extra(record).items()]
        words = [_time(record), record.levelname, _printable(record.getMessage()), *pairs]
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            # what an exception says may come from a client: its lines must not pass for the log's own
            words.append("".join(f"\n    {_printable(line)}" for line in trace.splitlines()))
        return " ".join(words)


class _Json(logging.Formatter):
    """One object a line, in ASCII: json escapes whatever else there is."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


def _extra(record: logging.LogRecord) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    return fields


def _time(record: logging.LogRecord) -> str:
    """2026-01-31T12:00:00.123Z"""
    stamp = datetime.fromtimestamp(record.created, UTC)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _quoted(value: Any) -> str:
    if isinstance(value, list):
        value = ",".join(map(str, value))
    text = str(value)
    return text if PLAIN.fullmatch(text) else json.dumps(text)


def _printable(text: str) -> str:
    """Without ends of lines, colours of terminals and marks that turn the direction of writing."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


_FORMS = {"text": _Text, "json": _Json}
