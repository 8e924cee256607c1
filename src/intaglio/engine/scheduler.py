"""The scheduler: who computes what in the next step. It knows tokens by their number only.

First come, first served. Every running sequence decodes in every step; what is left of the step's tokens
prefills prompts, in chunks. A sequence enters when the pages for all its tokens are free. When one that runs
finds no page, the youngest gives its pages back and is computed again later: its tokens stay the same,
because a draw depends on seed and position alone.

Drafts take what everybody leaves: tokens of the step after the prompts, pages after those that wait. The
pages of drafts that were wrong are given back after the step, so they never cost anyone his own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Many
from typing import NamedTuple, Protocol

from intaglio.engine.draft_length import DraftRecord
from intaglio.engine.pages import PAGE, PagePool, pages_for
from intaglio.engine.sequence import Sequence
from intaglio.errors import IntaglioError


class Chunk(NamedTuple):
    """`size` tokens of `sequence` from its `computed` on, and room for so many drafted ones behind them."""

    sequence: Sequence
    size: int
    drafts: int = 0

    @property
    def draws(self) -> bool:
        """Whether a token follows: the chunk reaches the sequence's end."""
        return self.size == self.sequence.missing


class Lengths(Protocol):
    """Decides how many tokens to draft."""

    def choose(self, records: Many[DraftRecord], rooms: Many[int], tokens: int, budget: int) -> list[int]:
        """For sequences with these records in a step of `tokens`: at most `rooms` each, `budget` together."""


class Scheduler:
    """Waiting and running sequences over one pool of pages. Without `lengths` nothing is drafted."""

    def __init__(
        self, pool: PagePool, *, max_tokens: int, max_sequences: int, lengths: Lengths | None = None
    ) -> None:
        self.pool = pool
        self.lengths = lengths
        self.max_tokens = max_tokens
        self.max_sequences = min(max_sequences, max_tokens)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []  # oldest first
        self.preemptions = 0

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        """Queue it; refused when even alone it could not be finished."""
        if pages_for(sequence.limit) > self.pool.count:
            raise IntaglioError(
                f"a sequence of {sequence.limit} tokens does not fit a KV memory of {self.pool.count * PAGE}:"
                " ask for fewer tokens, or open the model with a larger max_context"
            )
        self.waiting.append(sequence)

    def schedule(self) -> list[Chunk]:
        """The chunks of the next step, at most `max_tokens` tokens together."""
        decoding = [s for s in self.running if s.missing == 1]
        chunks = [Chunk(s, 1) for s in decoding if s in self.running and self._grow(s)]
        chunks = [chunk for chunk in chunks if chunk.sequence in self.running]
        budget = self.max_tokens - len(chunks)
        self._admit(budget)
        for sequence in self.running:
            count = min(sequence.missing, budget)
            if sequence not in decoding and count:
                chunks.append(Chunk(sequence, count))
                budget -= count
        return chunks if self.lengths is None else self._draft(chunks, budget, self.lengths)

    def advance(self, chunks: Many[Chunk], accepted: Many[int]) -> None:
        """After the step: count what was computed, `accepted` drafted tokens of each chunk included."""
        for chunk, right in zip(chunks, accepted, strict=True):
            sequence = chunk.sequence
            sequence.computed += chunk.size + right
            if chunk.drafts:
                kept = pages_for(sequence.computed)
                self.pool.free(sequence.pages[kept:])
                del sequence.pages[kept:]

    def remove(self, sequence: Sequence) -> None:
        """It is finished or unwanted: its pages are free."""
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        self._release(sequence)

    def _admit(self, budget: int) -> None:
        """Let waiting sequences run while there are tokens for them in this step, places and pages."""
        wanted = sum(s.missing for s in self.running if s.missing > 1)
        while self.waiting and wanted < budget and len(self.running) < self.max_sequences:
            needed = pages_for(len(self.waiting[0].tokens))
            if needed > self.pool.available:
                return
            sequence = self.waiting.popleft()
            sequence.pages = self.pool.allocate(needed)
            self.running.append(sequence)
            wanted += sequence.missing

    def _draft(self, chunks: list[Chunk], budget: int, lengths: Lengths) -> list[Chunk]:
        """The same chunks, those that draw with room for drafts."""
        drawing = [i for i, chunk in enumerate(chunks) if chunk.draws]
        sequences = [chunks[i].sequence for i in drawing]
        rooms = [min(budget, self._room(sequence)) for sequence in sequences]
        records = [sequence.drafts for sequence in sequences]
        wanted = lengths.choose(records, rooms, self.max_tokens - budget, budget)
        for i, sequence, count in zip(drawing, sequences, wanted, strict=True):
            count = min(count, self._room(sequence))  # those before it took pages
            sequence.pages += self.pool.allocate(self._missing_pages(sequence, count))
            chunks[i] = chunks[i]._replace(drafts=count)
        return chunks

    def _room(self, sequence: Sequence) -> int:
        """Tokens that may be drafted, with one more drawn after them, before its limit and in free pages."""
        length = len(sequence.tokens)
        pages = PAGE * (len(sequence.pages) + self.pool.available) - length
        return max(0, min(sequence.limit - length - 1, pages))

    def _missing_pages(self, sequence: Sequence, drafts: int) -> int:
        return max(0, pages_for(len(sequence.tokens) + drafts) - len(sequence.pages))

    def _grow(self, sequence: Sequence) -> bool:
        """Give it the page for its next token, taking the youngest's if need be; False if that is itself."""
        while pages_for(sequence.computed + 1) > len(sequence.pages):
            if self.pool.available:
                sequence.pages += self.pool.allocate(1)
                continue
            youngest = self.running.pop()
            self._release(youngest)
            self.waiting.appendleft(youngest)
            self.preemptions += 1
            if youngest is sequence:
                return False
        return True

    def _release(self, sequence: Sequence) -> None:
        self.pool.free(sequence.pages)
        sequence.pages = []
        sequence.computed = 0
