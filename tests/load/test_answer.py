"""What is taken from a stream: which chunks carry tokens, when, and how it ended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from intaglio.load.answer import Answer
from intaglio.load.failure import Failure

STREAM = [(b"content-type", b"text/event-stream; charset=utf-8")]


def answered(*timed: tuple[float, Any], end: float | None = None) -> Answer:
    """Of chunks and when they came."""
    answer = Answer()
    answer.begin(200, STREAM)
    for now, value in timed:
        text = value if isinstance(value, str) else json.dumps(value)
        answer.take(f"data: {text}\n\n".encode(), now)
    if end is not None:
        answer.end(end)
    return answer


def text(value: str | None, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"text": value, "finish_reason": finish}]}


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"delta": fields, "finish_reason": finish}]}


def test_a_completion() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}
    answer = answered(
        (1.0, {"id": "cmpl-7", **text("several words")}), (1.5, text(" more")), (1.75, text("", "stop")),
        (1.8, {"choices": [], "usage": usage}), (1.9, {"choices": []}), (2.0, "[DONE]"), end=3.0,
    )  # fmt: skip
    assert (answer.times, answer.ended, answer.finish, answer.id) == ([1.0, 1.5], 2.0, "stop", "cmpl-7")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert (answer.usage.completion_tokens, answer.usage.prompt_tokens_details.cached_tokens) == (7, 4)


def test_a_chat_where_the_role_is_no_token_and_a_thought_is() -> None:
    answer = answered(
        (1, delta(role="assistant", content="")), (2, delta(reasoning_content="a")),
        (3, delta(reasoning="b")), (4, delta(content=None)), (5, delta(content="c")),
        (6, delta(tool_calls=[{"index": 0}])), (7, delta("stop")),
    )  # fmt: skip
    assert answer.times == [2, 3, 5, 6]


def test_chunks_of_one_packet_came_together() -> None:
    answer = Answer()
    answer.begin(200, STREAM)
    answer.take(b"".join(b"data: %s\n\n" % json.dumps(text(t)).encode() for t in "abc"), 4.0)
    assert answer.times == [4.0, 4.0, 4.0]


def test_a_stream_without_done_ends_with_its_body_if_it_had_finished() -> None:
    assert answered((1, text("a", "length")), end=5.0).ended == 5.0
    with pytest.raises(Failure, match=r"disconnected: the stream ended without \[DONE\] or a finish_reason"):
        answered((1, text("a")), end=5.0)


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        ("{not json", "bad JSON"),
        ('{"choices": 3}', r"bad JSON: Expected `array`"),
        ({"error": {"message": "out of pages", "code": 500}}, "error in the stream: out of pages"),
        ({"error": "plain"}, "error in the stream: plain"),
        ({"error": {"code": 7}}, 'error in the stream: {"code":7}'),
    ],
)
def test_what_is_no_chunk_fails(chunk: Any, said: str) -> None:
    with pytest.raises(Failure, match=said):
        answered((1, chunk))


def test_bytes_that_are_no_text_fail() -> None:
    answer = Answer()
    answer.begin(200, STREAM)
    with pytest.raises(Failure, match="bad JSON"):
        answer.take(b'data: {"id": "\xff"}\n\n', 1.0)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "queue is full"}}', "HTTP 429: queue is full"),
        (b'{"detail": "Not Found"}', "HTTP 429: Not Found"),
        (b'{"detail": [{"loc": ["body"]}]}', r"HTTP 429: \[\{"),
        (b"<html>sorry</html>", "HTTP 429: <html>sorry</html>"),
        (b'"odd"', 'HTTP 429: "odd"'),
        (b"", "^HTTP 429$"),
    ],
)
def test_a_refusal_says_why(body: bytes, said: str) -> None:
    answer = Answer()
    answer.begin(429, [(b"content-type", b"application/json")])
    answer.take(body, 1.0)
    with pytest.raises(Failure, match=said):
        answer.end(1.0)


def test_a_long_refusal_is_cut() -> None:
    answer = Answer()
    answer.begin(500, [])
    for _ in range(100):
        answer.take(b"x" * 1000, 1.0)
    with pytest.raises(Failure) as failure:
        answer.end(1.0)
    assert len(failure.value.detail) == 300


def test_what_is_no_stream_fails() -> None:
    with pytest.raises(Failure, match="no stream: content-type application/json"):
        Answer().begin(200, [(b"content-type", b"application/json")])
    with pytest.raises(Failure, match="no stream: content-type missing"):
        Answer().begin(200, [])
