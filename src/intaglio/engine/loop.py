"""The loop: one step schedules, drafts, computes and draws, and gives every request its tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Many
from itertools import islice
from typing import TypeVar

from intaglio.engine.chunk import Chunk as NativeChunk
from intaglio.engine.draft_length import DraftLengths
from intaglio.engine.effort import effort
from intaglio.engine.executor import NOT_FINITE, Executor, NotFinite, not_finite
from intaglio.engine.request import Request
from intaglio.engine.scheduler import Chunk, Scheduler
from intaglio.engine.sequence import Sequence
from intaglio.engine.speculative import Drafter
from intaglio.errors import IntaglioError

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Loop:
    """Requests on their way through one executor; drafter and prefix cache change nothing but the speed.

    Whatever a step raises, and wherever, requests and pages stay as they agree: the next step computes again
    what was not given to its request, and `drop` gives back all pages of one. What only one request is to
    blame for ends that one, with the error in `Request.failure`.
    """

    def __init__(
        self, executor: Executor, drafter: Drafter | None = None, *, prefix_cache: bool = True
    ) -> None:
        self.executor = executor
        self.drafter = drafter
        self.lengths = DraftLengths(executor.max_draft)
        self.scheduler = Scheduler(
            executor.pool,
            max_tokens=executor.max_tokens,
            max_sequences=executor.max_sequences,
            effort=effort(executor.spec),
            lengths=self.lengths if drafter else None,
            prefix_cache=prefix_cache,
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

    def step(self) -> bool:
        """Every running request gets tokens, or a chunk of its prompt computed.

        False if there is nothing to do now: no request, or none whose pages are free.
        """
        chunks = self.scheduler.schedule()
        try:
            self._run(chunks)
        except BaseException:
            self.scheduler.cancel(chunks)
            raise
        return bool(chunks)

    def _run(self, chunks: Many[Chunk]) -> None:
        drafts, drafting = _timed(self._draft, chunks)
        natives = [self._native(chunk, own) for chunk, own in zip(chunks, drafts, strict=True)]
        jobs = [(chunk, native) for chunk, native in zip(chunks, natives, strict=True) if native]
        if not jobs:
            return
        batch = [native for _, native in jobs]
        said, computing = _timed(self._compute, batch)
        tokens = sum(len(native.tokens) for native in batch)
        self.lengths.observe(tokens, computing, sum(map(len, drafts)), drafting)
        self.steps += 1
        for at, (chunk, native) in enumerate(jobs):
            self._give(at, chunk, native, said[at])

    def _draft(self, chunks: Many[Chunk]) -> list[list[int]]:
        if self.drafter is None:
            return [[] for _ in chunks]
        return self.drafter.propose([(chunk.sequence, chunk.drafts) for chunk in chunks])

    def _native(self, chunk: Chunk, drafts: list[int]) -> NativeChunk | None:
        """None if its request cannot go on."""
        sequence, start = chunk.sequence, chunk.sequence.computed
        request = self._requests[sequence]
        request.enter()
        tokens = sequence.tokens[start : start + chunk.size]
        if not chunk.draws:
            return NativeChunk(tokens, start, sequence.pages)
        try:
            drafts, masks = request.masks(drafts)
        except Exception as error:  # whatever its mask raises: the others can go on
            self._fail(request, error)
            return None
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

    def _compute(self, batch: Many[NativeChunk]) -> list[list[int]]:
        """What each chunk says, NOT_FINITE where that is unknown."""
        try:
            drawn = self.executor.step(batch)
        except NotFinite as error:
            drawn = error.drawn
        rest = iter(drawn.tolist())
        return [chunk.accept(list(islice(rest, chunk.draws))) for chunk in batch]

    def _give(self, at: int, chunk: Chunk, native: NativeChunk, said: list[int]) -> None:
        """Chunk `at` of the step said this: tokens first, so that none counts as computed that is unknown."""
        request, accepted = self._requests[chunk.sequence], max(0, len(said) - 1)
        try:
            if NOT_FINITE in said:
                place = native.place(said.index(NOT_FINITE))
                raise IntaglioError(not_finite(place, f"request {request.number}"))
            self._take(request, at, said)
        except Exception as error:
            self._fail(request, error)
            return
        if said:
            chunk.sequence.drafts.observe(native.draws - 1, accepted)
        self.scheduler.advance([chunk], [accepted])
        if request.finished:
            self.drop(request)

    def _take(self, request: Request, at: int, said: Many[int]) -> None:
        """Tokens up to the end of the text."""
        request.steps += bool(said)
        wanted = request.params.logprobs is not None
        for draw, token in enumerate(said):
            request.take(token, self.executor.logprobs(at, draw) if wanted else None)
            if request.finished:
                return

    def _fail(self, request: Request, error: Exception) -> None:
        """It alone ends."""
        request.fail(error)
        self.drop(request)


def _timed(call: Callable[[_In], _Out], argument: _In) -> tuple[_Out, float]:
    """What the call gives, and its seconds."""
    start = time.perf_counter()
    return call(argument), time.perf_counter() - start
