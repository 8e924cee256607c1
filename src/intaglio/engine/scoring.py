"""Scoring and embedding prompts a slice at a time, so that whoever serves others can serve them in between.

score = PromptScore(executor, tokens)
while not score.finished:
    score.step()            # OutOfPages: later
score.logprobs
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from intaglio.engine.executor import Executor, not_finite
from intaglio.engine.pages import PAGE, pages_for
from intaglio.engine.prompt import check_prompt
from intaglio.engine.sampling import MOST_LOGPROBS, Logprobs
from intaglio.errors import IntaglioError, UsageError
from intaglio.types import Array

SLICE = PAGE  # tokens

Compute = Callable[[Array, int, Sequence[int]], Array]  # tokens, position, pages -> a row for each token


class Slices:
    """The first `count` tokens of a prompt on their way through an executor, on pages of their own.

    They are taken at the first slice. After an error, OutOfPages too, the slice can be tried again. `close`
    gives the pages back, as the last slice does.
    """

    def __init__(self, executor: Executor, tokens: Sequence[int], count: int, size: int) -> None:
        check_prompt(tokens, executor.spec.vocab_size, executor.max_context)
        if pages_for(count) > executor.pool.count:
            raise IntaglioError(
                f"a prompt of {len(tokens)} tokens does not fit a KV memory of {executor.pool.count * PAGE}:"
                " shorten it, or open the model with more pages"
            )
        if size < 1:
            raise UsageError(f"a slice of {size} tokens computes nothing: it must have at least 1")
        self._pool = executor.pool
        self._tokens = np.asarray(tokens[:count], np.int32)
        self._size = size
        self._pages: list[int] = []
        self._closed = False
        self.done = 0

    @property
    def finished(self) -> bool:
        return self.done == len(self._tokens)

    def next(self, compute: Compute) -> Array:
        """What `compute` gives for the next slice."""
        if self._closed:
            raise UsageError("this prompt is finished or was closed: start it again")
        if not self._pages:
            self._pages = self._pool.allocate(pages_for(len(self._tokens)))
        part = self._tokens[self.done : self.done + self._size]
        rows = compute(part, self.done, self._pages)
        self.done += len(part)
        if self.finished:
            self.close()
        return rows

    def close(self) -> None:
        """Its pages are free."""
        self._pool.free(self._pages)
        self._pages, self._closed = [], True


class PromptScore:
    """How likely each token of a prompt but the first is after those before it.

    `logprobs`: of each token, and of the `top` likeliest in its place, as they come; all when `finished`.
    Beside its pages it takes the logits of one slice: `size` x vocabulary.
    """

    def __init__(self, executor: Executor, tokens: Sequence[int], *, top: int = 0, size: int = SLICE) -> None:
        if not 0 <= top <= MOST_LOGPROBS:
            raise UsageError(f"logprobs is {top}, it must be in 0..{MOST_LOGPROBS}")
        self.logprobs: list[Logprobs] = []
        self._executor = executor
        self._targets = list(tokens[1:])
        self._slices = Slices(executor, tokens, len(tokens) - 1, size)
        self._top = top

    @property
    def finished(self) -> bool:
        return self._slices.finished

    def step(self) -> None:
        """Score one slice more."""
        rows = self._slices.next(self._executor.extend)
        for row in rows:
            position = len(self.logprobs)
            if (found := logprobs_of(row, self._targets[position], self._top)) is None:
                self.close()
                raise IntaglioError(not_finite(position, "the prompt"))
            self.logprobs.append(found)

    def close(self) -> None:
        """Its pages are free: it cannot go on."""
        self._slices.close()


class PromptEmbedding:
    """The mean over a prompt's tokens of what the model's head reads: the last state after the final norm."""

    def __init__(self, executor: Executor, tokens: Sequence[int], *, size: int = SLICE) -> None:
        self._executor = executor
        self._count = len(tokens)
        self._slices = Slices(executor, tokens, len(tokens), size)
        self._sum = np.zeros(executor.spec.hidden_size)

    @property
    def finished(self) -> bool:
        return self._slices.finished

    def step(self) -> None:
        """Compute one slice more."""
        rows = self._slices.next(self._executor.hidden)
        with np.errstate(invalid="ignore"):  # `vector` refuses what is broken
            self._sum += rows.sum(axis=0, dtype=np.float64)

    @property
    def vector(self) -> Array:
        """float32 (hidden,), when it is finished."""
        if not self.finished:
            raise UsageError("the prompt has tokens left: `step` until the embedding is finished")
        mean = self._sum / self._count
        if not np.isfinite(mean).all():
            raise IntaglioError(
                "the prompt's embedding is not finite: the model's weights are broken or overflow"
            )
        return mean.astype(np.float32)

    def close(self) -> None:
        """Its pages are free: it cannot go on."""
        self._slices.close()


def logprobs_of(logits: Array, token: int, top: int) -> Logprobs | None:
    """log softmax of float32 (vocab,) in float64, equal tokens in the order of ids; None: not finite."""
    x = logits.astype(np.float64)
    largest = x.max()
    total = largest + np.log(np.exp(x - largest).sum()) if np.isfinite(largest) else largest
    if not np.isfinite(total):
        return None
    rank = 1 + np.count_nonzero(x > x[token]) + np.count_nonzero(x[:token] == x[token])
    first = _first(x, min(top, len(x)))
    absent = top - len(first)
    tokens = (*first.tolist(), *[-1] * absent)
    logprobs = (*(x[first] - total).tolist(), *[-np.inf] * absent)
    return Logprobs(float(x[token] - total), int(rank), tokens, logprobs)


def _first(x: Array, count: int) -> Array:
    """Of so many largest that are not impossible, the largest first."""
    if not count:
        return np.empty(0, np.int64)
    least = np.partition(x, len(x) - count)[len(x) - count]
    found = np.flatnonzero((x >= least) & (x > -np.inf))
    return found[np.argsort(-x[found], kind="stable")[:count]]
