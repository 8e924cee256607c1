"""The scheduler: who computes what in the next step. It knows tokens by their number only.

The most important first, among equals first come, first served. Every running sequence decodes in every step;
what is left of the step prefills prompts, in chunks: of fewer tokens where each takes longer because it
attends to many, so that no step takes much longer than `max_tokens` of a fresh prompt. A sequence enters when
there is a place and the pages for all its tokens are free, and nobody passes one that waits for pages. When
one that runs finds no page, the last in rank gives its pages back and is computed again later: its tokens
stay the same, because a draw depends on seed and position alone.

Drafts take what everybody leaves: tokens of the step after the prompts, pages after those that wait. The
pages of drafts that were wrong are given back after the step, so they never cost anyone his own.
"""

from __future__ import annotations

import itertools
from bisect import insort
from collections.abc import Sequence as Many
from operator import attrgetter
from typing import NamedTuple, Protocol

from intaglio.engine.draft_length import DraftRecord
from intaglio.engine.effort import Effort
from intaglio.engine.pages import PAGE, PagePool, pages_for
from intaglio.engine.prefix import PrefixCache
from intaglio.engine.sequence import Sequence
from intaglio.engine.shares import Room, divide
from intaglio.errors import IntaglioError

RANK = attrgetter("rank")
FLAT = Effort()  # every token costs the same


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
    """Waiting and running sequences over one pool of pages, each list in the order of rank.

    `effort`: of a token by its position. Without `lengths` nothing is drafted. `prefix_cache`: sequences
    share the pages of what they begin with.
    """

    def __init__(
        self,
        pool: PagePool,
        *,
        max_tokens: int,
        max_sequences: int,
        effort: Effort = FLAT,
        lengths: Lengths | None = None,
        prefix_cache: bool = False,
    ) -> None:
        self.pool = pool
        self.effort = effort
        self.lengths = lengths
        self.max_tokens = max_tokens
        self.max_sequences = min(max_sequences, max_tokens)
        self.prefixes = PrefixCache(pool) if prefix_cache else None
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.preemptions = 0
        self._arrivals = itertools.count()

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    @property
    def prefix_queries(self) -> int:
        """Tokens of the sequences that entered."""
        return self.prefixes.queries if self.prefixes else 0

    @property
    def prefix_hits(self) -> int:
        """Of these, those that had been computed for others."""
        return self.prefixes.hits if self.prefixes else 0

    def add(self, sequence: Sequence) -> None:
        """Queue it; refused when even alone it could not be finished."""
        if pages_for(sequence.limit) > self.pool.count:
            raise IntaglioError(
                f"a sequence of {sequence.limit} tokens does not fit a KV memory of {self.pool.count * PAGE}:"
                " ask for fewer tokens, or open the model with a larger max_context"
            )
        sequence.arrival = next(self._arrivals)
        insort(self.waiting, sequence, key=RANK)

    def schedule(self) -> list[Chunk]:
        """The chunks of the next step, at most `max_tokens` tokens together.

        None at all while the pages that the first in rank waits for are used outside.
        """
        chunks = self._decode()
        self._admit()
        decoding = {chunk.sequence for chunk in chunks}
        prompts = [sequence for sequence in self.running if sequence not in decoding]
        for sequence in prompts:
            self._adopt(sequence)
        sizes = divide(prompts, self._room(chunks), self.effort, waits=self.prefixes is not None)
        chunks += [Chunk(sequence, size) for sequence, size in sizes.items()]
        budget = self.max_tokens - sum(chunk.size for chunk in chunks)
        return chunks if self.lengths is None else self._draft(chunks, budget, self.lengths)

    def advance(self, chunks: Many[Chunk], accepted: Many[int]) -> None:
        """After the step: count what was computed, `accepted` drafted tokens of each chunk included."""
        for chunk, right in zip(chunks, accepted, strict=True):
            sequence = chunk.sequence
            sequence.computed += chunk.size + right
            if chunk.drafts:
                self._trim(sequence, sequence.computed)
            if self.prefixes:
                self.prefixes.remember(sequence)

    def cancel(self, chunks: Many[Chunk]) -> None:
        """The step did not take place, or not to its end: what was not counted will be computed again."""
        for chunk in chunks:
            self._trim(chunk.sequence, max(chunk.sequence.computed, len(chunk.sequence.tokens)))

    def remove(self, sequence: Sequence) -> None:
        """It is finished or unwanted: its pages are free."""
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        self._release(sequence)

    def _decode(self) -> list[Chunk]:
        """A token for each sequence that needs only one, if there is a page for it."""
        decoding = [s for s in self.running if s.missing == 1]
        chunks = [Chunk(s, 1) for s in decoding if s in self.running and self._grow(s)]
        return [chunk for chunk in chunks if chunk.sequence in self.running]

    def _admit(self) -> None:
        """Let waiting sequences run while there are places and pages for them."""
        while self.waiting and len(self.running) < self.max_sequences:
            sequence = self.waiting[0]
            found = self.prefixes.adopt(sequence) if self.prefixes else 0
            needed = pages_for(len(sequence.tokens)) - len(sequence.pages)
            if needed > self.pool.available:
                self._release(sequence)
                return
            sequence.pages += self.pool.allocate(needed)
            insort(self.running, self.waiting.pop(0), key=RANK)
            if self.prefixes:
                self.prefixes.count(sequence, len(sequence.tokens), found)

    def _adopt(self, sequence: Sequence) -> None:
        """What others computed since it entered need not be computed again."""
        if self.prefixes and (found := self.prefixes.adopt(sequence)):
            self.prefixes.count(sequence, 0, found)

    def _room(self, chunks: Many[Chunk]) -> Room:
        """What these leave of the step."""
        spent = sum(self.effort.of(chunk.sequence.computed, chunk.size) for chunk in chunks)
        return Room(self.max_tokens - len(chunks), self.effort.of(0, self.max_tokens) - spent)

    def _draft(self, chunks: list[Chunk], budget: int, lengths: Lengths) -> list[Chunk]:
        """The same chunks, those that draw with room for drafts."""
        drawing = [i for i, chunk in enumerate(chunks) if chunk.draws]
        sequences = [chunks[i].sequence for i in drawing]
        rooms = [min(budget, self._draftable(sequence)) for sequence in sequences]
        records = [sequence.drafts for sequence in sequences]
        wanted = lengths.choose(records, rooms, self.max_tokens - budget, budget)
        for i, sequence, count in zip(drawing, sequences, wanted, strict=True):
            count = min(count, self._draftable(sequence))  # those before it took pages
            sequence.pages += self.pool.allocate(self._missing_pages(sequence, count))
            chunks[i] = chunks[i]._replace(drafts=count)
        return chunks

    def _draftable(self, sequence: Sequence) -> int:
        """Tokens that may be drafted, with one more drawn after them, before its limit and in free pages."""
        length = len(sequence.tokens)
        pages = PAGE * (len(sequence.pages) + self.pool.available) - length
        return max(0, min(sequence.limit - length - 1, pages))

    def _missing_pages(self, sequence: Sequence, drafts: int) -> int:
        return max(0, pages_for(len(sequence.tokens) + drafts) - len(sequence.pages))

    def _grow(self, sequence: Sequence) -> bool:
        """Give it the page for its next token, if need be from the last in rank; False if that is itself."""
        while pages_for(sequence.computed + 1) > len(sequence.pages):
            if self.pool.available:
                sequence.pages += self.pool.allocate(1)
                continue
            last = self.running.pop()
            self._release(last)
            last.preempted = True
            insort(self.waiting, last, key=RANK)
            self.preemptions += 1
            if last is sequence:
                return False
        return True

    def _trim(self, sequence: Sequence, tokens: int) -> None:
        """Give back the pages beyond so many tokens."""
        kept = pages_for(tokens)
        self.pool.free(sequence.pages[kept:])
        del sequence.pages[kept:]

    def _release(self, sequence: Sequence) -> None:
        self.pool.free(sequence.pages)
        sequence.pages = []
        sequence.computed = sequence.known = 0
