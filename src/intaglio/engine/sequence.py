"""A sequence: the tokens of one request, and the pages that remember them."""

from __future__ import annotations

from collections.abc import Iterable

from intaglio.engine.draft_length import DraftRecord
from intaglio.engine.sampling import Sampling


class Sequence:
    """Prompt and what was drawn so far. `computed` of its tokens have their keys and values in `pages`."""

    def __init__(self, prompt: Iterable[int], sampling: Sampling, limit: int) -> None:
        self.tokens = list(prompt)
        self.prompt_length = len(self.tokens)
        self.sampling = sampling
        self.limit = limit  # tokens it may grow to, prompt included
        self.pages: list[int] = []
        self.computed = 0
        self.drafts = DraftRecord()

    @property
    def missing(self) -> int:
        """Tokens that must still be computed before the next one can be drawn."""
        return len(self.tokens) - self.computed

    @property
    def output(self) -> list[int]:
        return self.tokens[self.prompt_length :]

    @property
    def full(self) -> bool:
        return len(self.tokens) >= self.limit
