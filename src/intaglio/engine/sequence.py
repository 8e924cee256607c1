"""A sequence: the tokens of one request, and the pages that remember them."""

from __future__ import annotations

from collections.abc import Iterable

from intaglio.engine.chain import Chain
from intaglio.engine.draft_length import DraftRecord
from intaglio.engine.sampling import Sampling


class Sequence:
    """Prompt and what was drawn so far. `computed` of its tokens have their keys and values in `pages`.

    A lower `priority` is served sooner. Only sequences of the same `salt` share pages.
    """

    def __init__(
        self,
        prompt: Iterable[int],
        sampling: Sampling,
        limit: int,
        *,
        priority: int = 0,
        salt: str | None = None,
    ) -> None:
        self.tokens = list(prompt)
        self.prompt_length = len(self.tokens)
        self.sampling = sampling
        self.limit = limit  # tokens it may grow to, prompt included
        self.priority = priority
        self.arrival = 0  # how many came before it
        self.pages: list[int] = []
        self.computed = 0
        self.chain = Chain(salt)
        self.known = 0  # of its pages the pool knows so many by their keys
        self.cached = 0  # tokens of its prompt that others had computed
        self.preempted = False
        self.drafts = DraftRecord()

    @property
    def missing(self) -> int:
        """Tokens that must still be computed before the next one can be drawn."""
        return len(self.tokens) - self.computed

    @property
    def rank(self) -> tuple[int, int]:
        """Who is first in this order is served first, and gives way last."""
        return self.priority, self.arrival

    @property
    def output(self) -> list[int]:
        return self.tokens[self.prompt_length :]

    @property
    def full(self) -> bool:
        return len(self.tokens) >= self.limit
