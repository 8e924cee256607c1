"""Shares: how the room that a step has for prompts is divided among them.

The shortest rest goes first, so that a chat does not wait for a document; the oldest prompt always gets a
quarter, so that no row of chats keeps a document waiting.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import NamedTuple

from intaglio.engine.effort import Effort
from intaglio.engine.pages import PAGE
from intaglio.engine.sequence import Sequence

OLDEST = 4  # its part of a step is 1 / OLDEST


class Room(NamedTuple):
    """What a step has left."""

    tokens: int
    effort: float

    def without(self, tokens: int, effort: float) -> Room:
        return Room(self.tokens - tokens, self.effort - effort)


def divide(
    prompts: Many[Sequence], room: Room, effort: Effort, *, waits: bool = False
) -> dict[Sequence, int]:
    """Tokens for each, together within the room; who gets none is left out. The oldest always gets one.

    `waits`: a prompt whose next page another one computes in this step gets none, and uses that in the next.
    """
    if not prompts or not room.tokens:
        return {}
    oldest = min(prompts, key=lambda sequence: sequence.arrival)
    part = Room(-(-room.tokens // OLDEST), room.effort / OLDEST)
    sizes = {oldest: max(1, _fitting(oldest, 0, part, effort))}
    left = room.without(sizes[oldest], effort.of(oldest.computed, sizes[oldest]))
    begun = set(_completed(oldest, sizes[oldest])) if waits else set()
    for sequence in sorted(prompts, key=lambda s: (s.priority, s.missing, s.arrival)):
        own = sizes.get(sequence, 0)
        if not own and begun and begun.intersection(_completed(sequence, min(PAGE, sequence.missing - 1))):
            continue
        if more := _fitting(sequence, own, left, effort):
            sizes[sequence] = own + more
            left = left.without(more, effort.of(sequence.computed + own, more))
            if waits:
                begun.update(_completed(sequence, own + more))
    return sizes


def _fitting(sequence: Sequence, own: int, room: Room, effort: Effort) -> int:
    """Tokens beyond its `own` first ones that the room has place for."""
    most = min(sequence.missing - own, room.tokens)
    return effort.tokens(sequence.computed + own, room.effort, most)


def _completed(sequence: Sequence, size: int) -> list[bytes]:
    """Keys of the pages that its next `size` tokens complete."""
    first, end = sequence.computed // PAGE, (sequence.computed + size) // PAGE
    return sequence.chain.keys(sequence.tokens, first, end)
