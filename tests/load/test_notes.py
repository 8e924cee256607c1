"""What a reader is told beside the numbers, and what is not worth a word."""

from __future__ import annotations

from intaglio.load.notes import notes
from intaglio.load.pace import Pace
from intaglio.load.record import Record
from intaglio.load.result import Client, lateness
from tests.load.records import record

IDLE = Client(0.1, None)


def said(*records: Record, client: Client = IDLE, pace: Pace = Pace()) -> str:  # noqa: B008 - frozen
    return "; ".join(notes(records, client, pace))


def test_nothing_where_all_is_as_asked() -> None:
    assert said(record()) == ""
    assert said() == ""
    assert said(record(output_tokens=1, prompt_tokens=99, counted=False, ttft_ms=None, error="timeout")) == ""


def test_what_was_not_as_asked() -> None:
    assert "1 answers came without usage" in said(record(counted=False), record())
    assert "have 8.0 tokens on average, the server counted 10.0" in said(record(prompt_tokens=12), record())
    assert said(record(asked_tokens=1000, prompt_tokens=1010)) == ""
    assert said(record(asked_tokens=None, prompt_tokens=99)) == ""
    assert "ended after 8.0 of 11.0 tokens on average" in said(record(output_tokens=5), record())
    assert "1 answers had no text" in said(record(ttft_ms=None))


def test_what_the_client_did_to_the_numbers() -> None:
    late = Client(0.6, lateness([record(sent_s=0.05)]))
    busy = "this client used 60% of a core"
    assert busy in said(record(), client=late)
    assert "this client was late itself" not in said(record(), client=late)
    assert "were sent 50 ms after they were due" in said(record(), client=late, pace=Pace(rate=5.0))
    assert "late itself" not in said(record(), client=late, pace=Pace(rate=5.0, concurrency=1))
