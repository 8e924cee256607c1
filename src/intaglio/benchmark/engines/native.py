"""Our own executor, driven by the scheduler of the LLM: no text is made, as with the peers."""

from __future__ import annotations

import time
from collections.abc import Sequence

from intaglio.benchmark.engines import Job, Tokens
from intaglio.benchmark.synthetic import open_model
from intaglio.benchmark.workloads import ANSWER, PROMPT
from intaglio.engine.chunk import Chunk
from intaglio.engine.executor import Executor
from intaglio.engine.pages import pages_for
from intaglio.engine.sampling import GREEDY
from intaglio.engine.scheduler import Chunk as Scheduled
from intaglio.engine.scheduler import Scheduler
from intaglio.engine.sequence import Sequence as Sequenced
from intaglio.models import scheme


class Native:
    """One executor for all workloads; `_context` is the one whose keys and values `_pages` hold."""

    def __init__(self, job: Job) -> None:
        checkpoint = open_model(job.model)
        self._executor = Executor(
            checkpoint,
            threads=job.threads,
            kv=job.kv,
            isa=job.isa,
            max_sequences=job.streams,
            max_context=job.positions,
            pages=max(pages_for(job.positions), job.streams * pages_for(PROMPT + ANSWER)),
        )
        self.format = scheme.summary(checkpoint, self._executor.kv_bits)
        self.weight_bytes = checkpoint.nbytes
        self.kv_bits = float(self._executor.kv_bits)
        self.vocab = checkpoint.spec.vocab_size
        self._context: Tokens = ()
        self._pages: list[int] = []
        self._next = 0  # the token drawn after it

    def prefill(self, prompt: Tokens) -> float:
        self._forget()
        pages = self._executor.pool.allocate(pages_for(len(prompt)))
        started = time.perf_counter()
        self._enter(prompt, pages)
        seconds = time.perf_counter() - started
        self._executor.pool.free(pages)
        return seconds

    def decode(self, context: Tokens, steps: int) -> float:
        if list(context) != list(self._context):
            self._forget()
            self._pages = self._executor.pool.allocate(pages_for(len(context) + steps))
            self._context, self._next = context, self._enter(context, self._pages)
        token, started = self._next, time.perf_counter()
        for position in range(len(context), len(context) + steps):
            token = int(self._executor.step([Chunk([token], position, self._pages, draws=1)])[0])
        return time.perf_counter() - started

    def batch(self, prompts: Sequence[Tokens], answer: int) -> float:
        self._forget()
        scheduler = Scheduler(
            self._executor.pool,
            max_tokens=self._executor.max_tokens,
            max_sequences=self._executor.max_sequences,
        )
        started = time.perf_counter()
        for prompt in prompts:
            scheduler.add(Sequenced(prompt, GREEDY, len(prompt) + answer))
        while scheduler.busy:
            self._advance(scheduler)
        return time.perf_counter() - started

    def _advance(self, scheduler: Scheduler) -> None:
        """One step of all that run; who is full leaves."""
        chunks = scheduler.schedule()
        drawing = [chunk.sequence for chunk in chunks if chunk.draws]
        drawn = self._executor.step([_native(chunk) for chunk in chunks]).tolist()
        scheduler.advance(chunks, [0] * len(chunks))
        for sequence, token in zip(drawing, drawn, strict=True):
            sequence.tokens.append(token)
            if sequence.full:
                scheduler.remove(sequence)

    def _enter(self, prompt: Tokens, pages: list[int]) -> int:
        """All of the prompt in the largest steps there are -> the token after it."""
        drawn: list[int] = []
        largest = self._executor.max_tokens
        for start in range(0, len(prompt), largest):
            part = prompt[start : start + largest]
            last = start + len(part) == len(prompt)
            drawn = self._executor.step([Chunk(part, start, pages, draws=int(last))]).tolist()
        return int(drawn[0])

    def _forget(self) -> None:
        self._executor.pool.free(self._pages)
        self._context, self._pages = (), []


def _native(chunk: Scheduled) -> Chunk:
    sequence, start = chunk.sequence, chunk.sequence.computed
    tokens = sequence.tokens[start : start + chunk.size]
    return Chunk(tokens, start, sequence.pages, draws=int(chunk.draws))


open = Native
