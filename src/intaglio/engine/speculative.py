"""Speculative decoding: a drafter guesses the next tokens, one step of the model checks them all.

A draw is a function of logits, settings, seed, position and the tokens before it, and the executor gives the
same logits whatever shares a step. A step therefore computes the chunk [last token, d1 .. dk], draws after
each of its k + 1 tokens with that token's own position and history, and keeps the draws up to the first that
is not the draft that followed. Each kept draw is the one that would have been made without drafts, from the
same logits: the output is the same token for token, greedy or sampled. Keys and values of wrong drafts lie
beyond `computed`, where no query looks before they are written over.

For a draft that is a single token, this accepts with the probability that the model gives the token, the most
that any exact rule can (Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding").
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Protocol

from intaglio.engine.sequence import Sequence
from intaglio.errors import UsageError

Wanted = Many[tuple[Sequence, int]]  # sequences, and how many tokens to draft for each


class Drafter(Protocol):
    """Guesses the tokens that follow. Wrong guesses cost time, never correctness."""

    def propose(self, wanted: Wanted) -> list[list[int]]:
        """For each sequence at most so many tokens that may follow its own."""

    def drop(self, sequence: Sequence) -> None:
        """The sequence has left: forget it."""


class PromptLookup:
    """What followed when the sequence's last tokens were said before (Saxena 2023, "Prompt Lookup Decoding").

    The longest ending of `max_ngram` to `min_ngram` tokens that occurred before counts, and its latest
    occurrence. A draft may run into itself: after "a b a b" it goes on with the period.
    """

    def __init__(self, max_ngram: int = 3, min_ngram: int = 1) -> None:
        if not 1 <= min_ngram <= max_ngram:
            raise UsageError(f"n-grams of {min_ngram} to {max_ngram} tokens: expected 1 <= min <= max")
        self.max_ngram = max_ngram
        self.min_ngram = min_ngram
        self._indices: dict[Sequence, _Index] = {}

    def propose(self, wanted: Wanted) -> list[list[int]]:
        return [self._continue(sequence, count) if count else [] for sequence, count in wanted]

    def drop(self, sequence: Sequence) -> None:
        self._indices.pop(sequence, None)

    def _continue(self, sequence: Sequence, count: int) -> list[int]:
        index = self._indices.setdefault(sequence, _Index(self.min_ngram, self.max_ngram))
        tokens = sequence.tokens
        start = index.find(tokens)
        if start is None:
            return []
        drafts = tokens[start : start + count]
        period = len(tokens) - start
        while len(drafts) < count:
            drafts.append(drafts[len(drafts) - period])
        return drafts


class _Index:
    """Where each n-gram of one growing list of tokens ended last."""

    def __init__(self, min_ngram: int, max_ngram: int) -> None:
        self._lengths = range(max_ngram, min_ngram - 1, -1)
        self._ends: dict[tuple[int, ...], int] = {}
        self._done = 0  # n-grams that end here or before are known

    def find(self, tokens: list[int]) -> int | None:
        """Where the longest known ending of `tokens` ended before."""
        for end in range(self._done + 1, len(tokens)):
            for n in self._lengths:
                if n <= end:
                    self._ends[tuple(tokens[end - n : end])] = end
        self._done = max(self._done, len(tokens) - 1)
        endings = (tuple(tokens[-n:]) for n in self._lengths if n <= len(tokens))
        return next((self._ends[ending] for ending in endings if ending in self._ends), None)
