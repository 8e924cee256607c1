"""What is computed of one request, to the bit: every time counts from when the request was due."""

from __future__ import annotations

from intaglio.load.answer import Answer
from intaglio.load.ask import Ask
from intaglio.load.chunk import Details, Usage
from intaglio.load.failure import Failure
from intaglio.load.record import Record
from intaglio.load.record import record as made

ASK = Ask(3, "short", b"", 20, 9)


def answer(times: list[float], usage: Usage | None, ended: float | None) -> Answer:
    one = Answer()
    one.status, one.finish, one.times, one.usage, one.ended = 200, "length", times, usage, ended
    return one


def of(one: Answer, failure: Failure | None = None) -> Record:
    """Due at 10.0 in a run that began at 8.0, sent half a second late."""
    return made(ASK, one, start=8.0, due=10.0, sent=10.5, now=14.0, failure=failure)


def test_times_and_counts() -> None:
    one = of(answer([11.0, 11.25, 11.75], Usage(21, 9, Details(16)), 12.0))
    assert (one.due_s, one.sent_s, one.ended_s) == (2.0, 2.5, 4.0)
    assert (one.ttft_ms, one.e2e_ms, one.itl_ms) == (1000.0, 2000.0, [250.0, 500.0])
    assert one.tpot_ms == 1000.0 / 8  # a chunk carried several: nine tokens in three chunks
    assert (one.prompt_tokens, one.cached_tokens, one.output_tokens, one.counted) == (21, 16, 9, True)
    assert (one.index, one.part, one.asked_tokens, one.limit, one.error) == (3, "short", 20, 9, None)


def test_without_usage_chunks_are_tokens() -> None:
    one = of(answer([11.0, 11.5, 12.0], None, 12.0))
    assert (one.output_tokens, one.counted, one.tpot_ms, one.prompt_tokens) == (3, False, 500.0, None)


def test_one_token_and_none() -> None:
    assert of(answer([11.0], Usage(21, 1), 11.0)).tpot_ms is None
    silent = of(answer([], Usage(21, 5), 11.0))
    assert (silent.ttft_ms, silent.tpot_ms, silent.itl_ms, silent.e2e_ms) == (None, None, [], 1000.0)


def test_a_failure_ends_when_it_is_known() -> None:
    one = of(answer([11.0, 12.0], None, None), Failure("disconnected", "gone"))
    assert (one.error, one.detail, one.e2e_ms, one.output_tokens) == ("disconnected", "gone", 4000.0, 2)
