"""The scheduler: who computes what in the next step. It knows tokens by their number only.

First come, first served. Every running sequence decodes in every step; what is left of the step's tokens
prefills prompts, in chunks. A sequence enters when the pages for all its tokens are free. When one that runs
finds no page, the youngest gives its pages back and is computed again later: its tokens stay the same,
because a draw depends on seed and position alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Many
from typing import NamedTuple

from intaglio.engine.pages import PAGE, PagePool, pages_for
from intaglio.engine.sequence import Sequence
from intaglio.errors import IntaglioError


class Chunk(NamedTuple):
    """`size` tokens of `sequence` from its `computed` on."""

    sequence: Sequence
    size: int

    @property
    def draws(self) -> bool:
        """Whether a token follows: the chunk reaches the sequence's end."""
        return self.size == self.sequence.missing


class Scheduler:
    """Waiting and running sequences over one pool of pages."""

    def __init__(self, pool: PagePool, *, max_tokens: int, max_sequences: int) -> None:
        self.pool = pool
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
        return chunks

    def advance(self, chunks: Many[Chunk], drawn: Many[int]) -> list[Sequence]:
        """After the step: count what was computed, append what was drawn -> the sequences that grew."""
        grown = [chunk.sequence for chunk in chunks if chunk.draws]
        for chunk in chunks:
            chunk.sequence.computed += chunk.size
        for sequence, token in zip(grown, drawn, strict=True):
            sequence.tokens.append(token)
        return grown

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
