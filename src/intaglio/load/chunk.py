"""Chunk: one event of a stream, as much of it as is measured."""

from __future__ import annotations

from typing import Any

import msgspec

from intaglio.load.failure import Failure


class Delta(msgspec.Struct):
    """What a chat's answer grows by; a model that thinks aloud fills one of `reasoning…`."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Any] | None = None


class Choice(msgspec.Struct):
    text: str | None = None
    delta: Delta | None = None
    finish_reason: str | None = None

    @property
    def grows(self) -> bool:
        """Whether it carries tokens; the first and the last of a stream often carry none."""
        delta = self.delta
        if delta is None:
            return bool(self.text)
        return bool(delta.content or delta.reasoning_content or delta.reasoning or delta.tool_calls)


class Details(msgspec.Struct):
    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """What the server counted."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: Details | None = None


class Chunk(msgspec.Struct):
    id: str | None = None
    choices: list[Choice] = []
    usage: Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(Chunk).decode


def read(data: bytes) -> Chunk:
    """Raises Failure: what is no chunk, and what says that something went wrong."""
    try:
        chunk = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Failure("bad JSON", f"{error} in {data[:80].decode(errors='replace')}") from None
    if chunk.error:
        raise Failure("error in the stream", message(chunk.error))
    return chunk


def message(error: Any) -> str:
    """What an error of OpenAI's API says: {"message": ...}, or whatever came instead."""
    said = error.get("message", error) if isinstance(error, dict) else error
    return said if isinstance(said, str) else msgspec.json.encode(said).decode()


class _Refusal(msgspec.Struct):
    error: Any = None
    detail: Any = None  # FastAPI's word for it
    message: Any = None


def refusal(body: bytes) -> str:
    """What the body of an answer that is no 200 says."""
    try:
        found = msgspec.json.decode(body, type=_Refusal)
        said = found.error or found.detail or found.message
        return message(said) if said else ""
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode(errors="replace")
