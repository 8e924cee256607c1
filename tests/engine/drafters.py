"""Drafters and draft lengths that tests choose, so that no clock decides what is drafted."""

from __future__ import annotations

from collections.abc import Sequence as Many

import numpy as np

from intaglio.engine.draft_length import DraftLengths, DraftRecord
from intaglio.engine.llm import LLM
from intaglio.engine.sequence import Sequence
from intaglio.engine.speculative import Drafter, Wanted


class Always(DraftLengths):
    """As many tokens as there is room for."""

    def choose(self, records: Many[DraftRecord], rooms: Many[int], tokens: int, budget: int) -> list[int]:
        lengths = []
        for room in rooms:
            lengths.append(min(room, self.max_draft, budget))
            budget -= lengths[-1]
        return lengths


class Foreseeing:
    """Knows what will be said, and errs in each token with probability `wrong`."""

    def __init__(self, answers: Many[tuple[Many[int], Many[int]]], wrong: float, vocab: int) -> None:
        self.answers = [([*prompt, *answer], len(prompt)) for prompt, answer in answers]
        self.wrong, self.vocab = wrong, vocab
        self.rng = np.random.default_rng(0)

    def propose(self, wanted: Wanted) -> list[list[int]]:
        return [self._one(sequence, count) for sequence, count in wanted]

    def _one(self, sequence: Sequence, count: int) -> list[int]:
        said = sequence.tokens
        texts = [
            text for text, n in self.answers if n == sequence.prompt_length and text[: len(said)] == said
        ]
        truth = [*texts[0], *[0] * count][len(said) : len(said) + count] if texts else [0] * count
        return [
            int(self.rng.integers(self.vocab)) if self.rng.random() < self.wrong else token for token in truth
        ]

    def drop(self, sequence: Sequence) -> None:
        """Nothing is remembered."""


def always(llm: LLM, drafter: Drafter | None = None) -> LLM:
    """`llm` drafting all it can, with `drafter` if given."""
    loop = llm.loop
    loop.lengths = loop.scheduler.lengths = Always(llm.executor.max_draft)
    loop.drafter = drafter or loop.drafter
    return llm
