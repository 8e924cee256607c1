"""Synthetic: requests of words that mean nothing, of the lengths asked for."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from intaglio.errors import UsageError
from intaglio.load.ask import Ask, Form
from intaglio.load.mix import Part, near, shuffled
from intaglio.load.vocabulary import Vocabulary

MOST = 4 << 30  # bytes of all prompts together: they are made before the first is sent
BYTES = 8  # of a token, about


class Synthetic(msgspec.Struct, frozen=True):
    """`range_ratio`: how far lengths may be from a part's. Each prompt begins with one of `prefixes` texts of
    `prefix` tokens, then come its own. `as_ids`: prompts are lists of tokens.
    """

    parts: tuple[Part, ...]
    count: int
    range_ratio: float = 0.0
    prefix: int = 0
    prefixes: int = 1
    as_ids: bool = False

    def asks(self, vocabulary: Vocabulary, form: Form, seed: str) -> list[Ask]:
        """The same for the same seed and vocabulary."""
        self._check()
        if form.chat:  # a chat template brings its own
            vocabulary = msgspec.structs.replace(vocabulary, special=0)
        random = Random(f"{seed}:lengths")
        starts = [self._start(vocabulary, Random(f"{seed}:prefix {i}")) for i in range(self.prefixes)]
        found = []
        for index, part in enumerate(shuffled(self.parts, self.count, random)):
            start = random.choice(starts)
            own = near(part.input, self.range_ratio, random)
            limit = near(part.output, self.range_ratio, random)
            rest = self._rest(own, vocabulary, Random(f"{seed}:{index}"))
            prompt = start + rest if self.as_ids else " ".join(start + rest)
            found.append(Ask(index, part.name, form.body(prompt, limit), self.prefix + own, limit))
        return found

    def warming(self, count: int) -> Synthetic:
        """Requests of the same lengths that share nothing with those measured."""
        parts = tuple(Part(p.name, p.input + self.prefix, p.output, p.share) for p in self.parts)
        return Synthetic(parts, count, as_ids=self.as_ids)

    def _start(self, vocabulary: Vocabulary, random: Random) -> list[Any]:
        if not self.prefix:
            return []
        return self._opening(self.prefix, vocabulary, random)

    def _rest(self, tokens: int, vocabulary: Vocabulary, random: Random) -> list[Any]:
        if not self.prefix:
            return self._opening(tokens, vocabulary, random)
        return random.choices(vocabulary.ids, k=tokens) if self.as_ids else vocabulary.draw(tokens, random)

    def _opening(self, tokens: int, vocabulary: Vocabulary, random: Random) -> list[Any]:
        return random.choices(vocabulary.ids, k=tokens) if self.as_ids else vocabulary.opening(tokens, random)

    def _check(self) -> None:
        longest = self.prefix + max(part.input for part in self.parts) * (1 + self.range_ratio)
        if self.count * longest * BYTES > MOST:
            raise UsageError(
                f"{self.count} prompts of up to {longest:.0f} tokens are more than {MOST >> 30} GB of text;"
                " send fewer (--num-prompts) or shorter ones"
            )
