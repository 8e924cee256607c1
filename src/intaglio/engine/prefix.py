"""The prefix cache: what two sequences have in common is computed once.

A full page of a sequence is known by its key as soon as it is computed, and kept when nobody uses it any more
for as long as its memory is not needed. A token's keys and values depend on it and those before it alone,
whatever shared its steps, so that whose pages a sequence reads changes nothing but the time it takes.
"""

from __future__ import annotations

from intaglio.engine.pages import PAGE, PagePool
from intaglio.engine.sequence import Sequence


class PrefixCache:
    """Lets sequences use one another's pages. `queries` and `hits` count tokens of new sequences."""

    def __init__(self, pool: PagePool) -> None:
        self.pool = pool
        self.queries = 0
        self.hits = 0

    def adopt(self, sequence: Sequence) -> int:
        """Its next pages become those that others computed -> so many tokens; one is left to compute."""
        first, end = sequence.computed // PAGE, (len(sequence.tokens) - 1) // PAGE
        found = self.pool.find(sequence.chain.keys(sequence.tokens, first, end))
        if not found:
            return 0
        self.pool.share(found)
        self.pool.free(sequence.pages[first : first + len(found)])
        sequence.pages[first : first + len(found)] = found
        before, sequence.known = sequence.computed, first + len(found)
        sequence.computed = PAGE * sequence.known
        return sequence.computed - before

    def remember(self, sequence: Sequence) -> None:
        """What is computed of it is known from now on; drafts are not, before they are its tokens."""
        full = min(sequence.computed, len(sequence.tokens)) // PAGE
        for at, key in enumerate(sequence.chain.keys(sequence.tokens, sequence.known, full), sequence.known):
            sequence.pages[at] = self.pool.remember(sequence.pages[at], key)
        sequence.known = max(sequence.known, full)

    def count(self, sequence: Sequence, asked: int, found: int) -> None:
        """A sequence that entered asked for so many tokens. One that came back says nothing of prefixes."""
        if not sequence.preempted:
            sequence.cached += found
            self.queries += asked
            self.hits += found
