"""Record: one request, as it was measured. Times in milliseconds count from when it was due."""

from __future__ import annotations

from itertools import pairwise

import msgspec

from intaglio.load.answer import Answer
from intaglio.load.ask import Ask
from intaglio.load.failure import Failure


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """`due_s`, `sent_s`: after the start. `itl_ms`: gaps between chunks that carried tokens.

    `output_tokens` is what the server counted; where it did not (`counted` false), chunks with tokens.
    `error`: what failures are counted by, None of a request that was answered whole.
    """

    index: int
    part: str
    due_s: float
    sent_s: float
    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float
    itl_ms: list[float]
    asked_tokens: int | None
    prompt_tokens: int | None
    cached_tokens: int | None
    output_tokens: int
    limit: int
    counted: bool
    finish: str | None
    status: int | None
    id: str | None
    error: str | None = None
    detail: str = ""

    @property
    def ended_s(self) -> float:
        return self.due_s + self.e2e_ms / 1e3


def record(
    ask: Ask, answer: Answer, *, start: float, due: float, sent: float, now: float, failure: Failure | None
) -> Record:
    """Of an answer, whole or not, at the time `now`."""
    usage = answer.usage
    details = usage.prompt_tokens_details if usage else None
    counted = usage.completion_tokens if usage else None
    tokens = len(answer.times) if counted is None else counted
    first = answer.times[0] if answer.times else None
    ended = now if answer.ended is None or failure else answer.ended
    return Record(
        index=ask.index,
        part=ask.part,
        due_s=due - start,
        sent_s=sent - start,
        ttft_ms=None if first is None else (first - due) * 1e3,
        tpot_ms=None if first is None or tokens < 2 else (ended - first) * 1e3 / (tokens - 1),
        e2e_ms=(ended - due) * 1e3,
        itl_ms=[(after - before) * 1e3 for before, after in pairwise(answer.times)],
        asked_tokens=ask.tokens,
        prompt_tokens=usage.prompt_tokens if usage else None,
        cached_tokens=details.cached_tokens if details else None,
        output_tokens=tokens,
        limit=ask.limit,
        counted=counted is not None,
        finish=answer.finish,
        status=answer.status,
        id=answer.id,
        error=failure.kind if failure else None,
        detail=failure.detail if failure else "",
    )
