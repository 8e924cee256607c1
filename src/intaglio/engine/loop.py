"""The loop: one step schedules, drafts, computes and draws, and gives every request its tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Many
from itertools import islice
from typing import TypeVar

from intaglio.engine.chunk import Chunk as NativeChunk
from intaglio.engine.draft_length import DraftLengths
from intaglio.engine.executor import Executor
from intaglio.engine.request import Request
from intaglio.engine.scheduler import Chunk, Scheduler
from intaglio.engine.sequence import Sequence
from intaglio.engine.speculative import Drafter
from intaglio.errors import IntaglioError

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Loop:
    """Requests on their way through one executor; a `drafter` changes nothing but the speed."""

    def __init__(self, executor: Executor, drafter: Drafter | None = None) -> None:
        self.executor = executor
        self.drafter = drafter
        self.lengths = DraftLengths(executor.max_draft)
        self.scheduler = Scheduler(
            executor.pool,
            max_tokens=executor.max_tokens,
            max_sequences=executor.max_sequences,
            lengths=self.lengths if drafter else None,
        )
        self.steps = 0
        self._requests: dict[Sequence, Request] = {}

    def add(self, request: Request) -> None:
        """Queue it; `step` brings it forward."""
        self.scheduler.add(request.sequence)
        self._requests[request.sequence] = request

    def drop(self, request: Request) -> None:
        """End a request, finished or not: its pages are free."""
        request.abort()
        if self._requests.pop(request.sequence, None):
            self.scheduler.remove(request.sequence)
            if self.drafter:
                self.drafter.drop(request.sequence)

    def step(self) -> None:
        """Every running request gets tokens, or a chunk of its prompt computed."""
        chunks = self.scheduler.schedule()
        drafts, drafting = _timed(self._draft, chunks)
        batch = [self._native(chunk, own) for chunk, own in zip(chunks, drafts, strict=True)]
        drawn, computing = _timed(self.executor.step, batch)
        tokens = sum(len(chunk.tokens) for chunk in batch)
        self.lengths.observe(tokens, computing, sum(map(len, drafts)), drafting)
        self.steps += 1
        rest = iter(drawn.tolist())
        self._advance(chunks, batch, [chunk.accept(list(islice(rest, chunk.draws))) for chunk in batch])

    def _advance(self, chunks: Many[Chunk], batch: Many[NativeChunk], said: Many[list[int]]) -> None:
        """Give the sequences what they said; pages first, for a request that ends gives all of its back."""
        accepted = [max(0, len(tokens) - 1) for tokens in said]
        self.scheduler.advance(chunks, accepted)
        for at, (chunk, tokens) in enumerate(zip(chunks, said, strict=True)):
            if tokens:
                chunk.sequence.drafts.observe(batch[at].draws - 1, accepted[at])
                self._take(self._requests[chunk.sequence], at, tokens)

    def _draft(self, chunks: Many[Chunk]) -> list[list[int]]:
        if self.drafter is None:
            return [[] for _ in chunks]
        return self.drafter.propose([(chunk.sequence, chunk.drafts) for chunk in chunks])

    def _native(self, chunk: Chunk, drafts: list[int]) -> NativeChunk:
        sequence, start = chunk.sequence, chunk.sequence.computed
        tokens = sequence.tokens[start : start + chunk.size]
        if not chunk.draws:
            return NativeChunk(tokens, start, sequence.pages)
        request = self._requests[sequence]
        try:
            drafts, masks = request.masks(drafts)
        except IntaglioError:
            self.drop(request)  # the others can go on
            raise
        return NativeChunk(
            tokens=tokens + drafts,
            position=start,
            pages=sequence.pages,
            draws=1 + len(drafts),
            params=sequence.sampling,
            history=sequence.tokens + drafts if sequence.sampling.penalises else (),
            prompt=sequence.prompt_length,
            masks=masks,
            logprobs=request.params.logprobs,
        )

    def _take(self, request: Request, at: int, tokens: Many[int]) -> None:
        """What chunk `at` of the step drew, up to the end of the text."""
        request.steps += 1
        wanted = request.params.logprobs is not None
        for draw, token in enumerate(tokens):
            request.take(token, self.executor.logprobs(at, draw) if wanted else None)
            if request.finished:
                self.drop(request)
                return


def _timed(call: Callable[[_In], _Out], argument: _In) -> tuple[_Out, float]:
    """What the call gives, and its seconds."""
    start = time.perf_counter()
    return call(argument), time.perf_counter() - start
