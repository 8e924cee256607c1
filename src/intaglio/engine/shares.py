"""Shares: how the tokens that a step has for prompts are divided among them.

The shortest rest goes first, so that a chat does not wait for a document; the oldest prompt always gets a
quarter, so that no row of chats keeps a document waiting.
"""

from __future__ import annotations

from collections.abc import Sequence as Many

from intaglio.engine.pages import PAGE
from intaglio.engine.sequence import Sequence

OLDEST = 4  # its part of the tokens is 1 / OLDEST


def divide(prompts: Many[Sequence], budget: int, *, waits: bool = False) -> dict[Sequence, int]:
    """At most `budget` tokens in all; who gets none is left out.

    `waits`: a prompt whose next page another one computes in this step gets none, and uses that in the next.
    """
    if not prompts or not budget:
        return {}
    oldest = min(prompts, key=lambda sequence: sequence.arrival)
    sizes = {oldest: min(oldest.missing, -(-budget // OLDEST))}
    left = budget - sizes[oldest]
    begun = set(_completed(oldest, sizes[oldest])) if waits else set()
    for sequence in sorted(prompts, key=lambda s: (s.priority, s.missing, s.arrival)):
        own = sizes.get(sequence, 0)
        if not own and begun and begun.intersection(_completed(sequence, min(PAGE, sequence.missing - 1))):
            continue
        if more := min(sequence.missing - own, left):
            sizes[sequence] = own + more
            left -= more
            if waits:
                begun.update(_completed(sequence, own + more))
    return sizes


def _completed(sequence: Sequence, size: int) -> list[bytes]:
    """Keys of the pages that its next `size` tokens complete."""
    first, end = sequence.computed // PAGE, (sequence.computed + size) // PAGE
    return sequence.chain.keys(sequence.tokens, first, end)
