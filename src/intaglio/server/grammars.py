"""Grammars, compiled for one model's tokens, and the masks that keep an answer to one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any, TypeVar

import numpy as np

from intaglio.engine.mask import everything, without, words_of
from intaglio.errors import IntaglioError, UsageError
from intaglio.lazy import lazy
from intaglio.models.tokenizer import Tokenizer
from intaglio.server.structured import Grammar
from intaglio.types import Array

llguidance: Any = lazy("llguidance", extra="serve")
bitmasks: Any = lazy("llguidance.numpy", extra="serve")

T = TypeVar("T")

KEPT = 16  # compiled grammars
STACK = 64 << 20  # bytes, for what schemas.MOST_REACH lets recurse
STATES = 25_000  # of one's lexer, each up to 2 kB: 50 MB where a stranger means harm


class Grammars:
    """For a model of `vocab_size` tokens. Any thread may call; one compiles at a time."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self._vocab = vocab_size
        self._tokens: Any = None
        self._kept: OrderedDict[Grammar, Compiled] = OrderedDict()
        self._lock = threading.Lock()

    def compiled(self, grammar: Grammar) -> Compiled:
        """What makes masks; UsageError if llguidance does not take it.

        Milliseconds for most, a second for the first, a few for the worst: not for an event loop's thread.
        """
        with self._lock:
            found = self._kept.pop(grammar, None)
            if found is None or found.spoilt:
                found = _with_stack(lambda: self._compile(grammar))
            self._kept[grammar] = found
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return found

    def _compile(self, grammar: Grammar) -> Compiled:
        if self._tokens is None:
            self._tokens = _tokens(self._tokenizer, self._vocab)
        limits = llguidance.LLParserLimits(
            max_items_in_row=grammar.items, max_lexer_states=STATES, verbose_errors=False
        )
        matcher = llguidance.LLMatcher(self._tokens, grammar.text, log_level=0, limits=limits)
        if matcher.is_error():
            raise UsageError(f"the answer's form cannot be kept to: {_reason(matcher)}")
        ends = frozenset(self._tokens.eos_tokens)
        compiled = Compiled(matcher, self._tokens.vocab_size, self._vocab, ends)
        compiled.mask()([])  # the dearest one: here it keeps no other request waiting
        return compiled


@dataclass
class Compiled:
    """One grammar. Its masks share what they learn of it, and the fault when it is found too complex."""

    matcher: Any  # never advanced
    tokens: int  # that the matcher knows
    vocab: int  # that the model knows
    ends: frozenset[int]
    spoilt: bool = False

    @cached_property
    def end(self) -> Array:
        """The mask after an end: another end."""
        every = everything(self.vocab)
        return every & ~without(every, self.ends)

    def mask(self) -> Mask:
        """A TokenMask; one for each sequence, for each goes its own way through the grammar."""
        return Mask(self)


class Mask:
    """The tokens that may follow those said: a TokenMask of an engine. After an end only another end."""

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._matcher = compiled.matcher.deep_copy()
        self._said: list[int] = []  # what the matcher has consumed
        self._row = np.zeros((1, words_of(compiled.tokens)), np.int32)

    def __call__(self, said: Sequence[int]) -> Array:
        """uint32 (words of the model's vocabulary,); UsageError if the grammar turns out too complex."""
        self._return_to(_common(self._said, said))
        fresh = list(takewhile(lambda token: token not in self._compiled.ends, said[len(self._said) :]))
        taken = self._matcher.try_consume_tokens(fresh)
        self._said += fresh[:taken]
        self._refuse_fault()
        if taken < len(fresh):
            return np.zeros(words_of(self._compiled.vocab), np.uint32)
        return self._next() if len(said) == len(self._said) else self._compiled.end

    def _return_to(self, length: int) -> None:
        """Forget what was said after the first `length` tokens."""
        if length < len(self._said):
            if not self._matcher.rollback(len(self._said) - length):  # few grammars cannot go back
                self._matcher = self._compiled.matcher.deep_copy()
                self._matcher.try_consume_tokens(self._said[:length])
            del self._said[length:]

    def _next(self) -> Array:
        bitmasks.fill_next_token_bitmask(self._matcher, self._row)
        self._refuse_fault()
        every = everything(self._compiled.vocab)
        return self._row[0, : len(every)].view(np.uint32) & every

    def _refuse_fault(self) -> None:
        """llguidance would now let every text end, whatever it is."""
        if self._matcher.is_error():
            self._compiled.spoilt = True
            raise UsageError(f"the answer's form cannot be kept to any further: {_reason(self._matcher)}")


def _tokens(tokenizer: Tokenizer, vocab: int) -> Any:
    """The model's tokens as llguidance knows them; those that the model lacks a row for included."""
    size = max(vocab, len(tokenizer.vocabulary))
    ends = [token for token in tokenizer.eos_ids if token < min(vocab, len(tokenizer.vocabulary))]
    if not ends:
        raise UsageError("the model names no token that ends a text: an answer's form cannot be kept to")
    try:
        return llguidance.LLTokenizer(tokenizer.json, n_vocab=size, eos_token=ends)
    except ValueError as error:
        raise UsageError(f"llguidance cannot read the model's tokenizer: {_short(str(error))}") from None


def _with_stack(call: Callable[[], T]) -> T:
    """What it returns, from a thread where native code may recurse deeply; it may also panic."""
    usual = threading.stack_size(STACK)
    try:
        with ThreadPoolExecutor(max_workers=1) as pool:
            done = pool.submit(call)
    finally:
        threading.stack_size(usual)
    if (error := done.exception()) and not isinstance(error, Exception):
        raise IntaglioError(f"llguidance failed: {_short(str(error))}")
    return done.result()


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of what both begin with."""
    if other[: len(one)] == one:
        return len(one)
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, pair in pairs if pair[0] != pair[1]), min(len(one), len(other)))


def _reason(matcher: Any) -> str:
    found = _short(matcher.get_error())
    return "no text satisfies it" if found == "NoExtensionBias" else found


def _short(text: str) -> str:
    """A reason in one line."""
    words = " ".join(text.replace("<non-verbose/>", "").split())
    return words if len(words) <= 300 else f"{words[:147]} … {words[-150:]}"
