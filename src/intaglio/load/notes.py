"""Notes: what a reader of the numbers has to know."""

from __future__ import annotations

from collections.abc import Sequence

from intaglio.load.pace import Pace
from intaglio.load.record import Record
from intaglio.load.result import Client

NEAR = 0.02  # of a length: less is not worth a word
LATE = 20.0  # milliseconds
BUSY = 0.5  # of a core


def notes(records: Sequence[Record], client: Client, pace: Pace) -> list[str]:
    """One sentence each."""
    whole = [one for one in records if one.error is None]
    found = [
        _uncounted(whole),
        _prompts(whole),
        _answers(whole),
        _silent(whole),
        _late(client, pace),
        _busy(client),
    ]
    return [note for note in found if note]


def _uncounted(whole: Sequence[Record]) -> str:
    count = sum(not one.counted for one in whole)
    return f"{count} answers came without usage: each chunk of theirs counts as one token" if count else ""


def _prompts(whole: Sequence[Record]) -> str:
    both = [(one.asked_tokens, one.prompt_tokens) for one in whole if one.asked_tokens and one.prompt_tokens]
    asked, counted = sum(a for a, _ in both), sum(c for _, c in both)
    if not both or abs(counted - asked) <= NEAR * asked:
        return ""
    return (
        f"prompts were made to have {asked / len(both):.1f} tokens on average, the server counted"
        f" {counted / len(both):.1f} (a chat template adds its own)"
    )


def _answers(whole: Sequence[Record]) -> str:
    tokens, limit = sum(one.output_tokens for one in whole), sum(one.limit for one in whole)
    if tokens >= limit * (1 - NEAR):
        return ""
    return (
        f"answers ended after {tokens / len(whole):.1f} of {limit / len(whole):.1f} tokens on average;"
        " --ignore-eos goes on, where the server knows it"
    )


def _silent(whole: Sequence[Record]) -> str:
    count = sum(one.ttft_ms is None for one in whole)
    return f"{count} answers had no text: they have no time to the first token" if count else ""


def _late(client: Client, pace: Pace) -> str:
    late = client.late_ms
    if not pace.open or pace.concurrency is not None or late is None or late.p99 < LATE:
        return ""
    return f"this client was late itself: 1 % of the requests were sent {late.p99:.0f} ms after they were due"


def _busy(client: Client) -> str:
    if client.cpu_share < BUSY:
        return ""
    return f"this client used {client.cpu_share:.0%} of a core: on a small machine the server lacks it"
