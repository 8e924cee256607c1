"""The engine: one LLM that steps in a thread of its own, and is asked from an event loop.

Everything that touches the LLM happens in that thread; it takes orders from a queue before every step and
hands what a step gave over to the event loop in one call. The native step runs without the GIL, so the event
loop reads and writes meanwhile. Without work the thread sleeps.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from intaglio.engine.llm import LLM
from intaglio.engine.output import SamplingParams
from intaglio.engine.pages import OutOfPages
from intaglio.engine.request import Request
from intaglio.errors import IntaglioError
from intaglio.server.generation import Generation, Piece
from intaglio.server.refusal import Refusal

log = logging.getLogger("intaglio.server")
News = list[tuple[Generation, Piece | Refusal]]
SICK = 3  # steps that failed in a row before the engine calls itself unhealthy


class Sliced(Protocol):
    """Work beside the generations, a slice at a time: no slice takes longer than a step."""

    @property
    def finished(self) -> bool: ...

    def step(self) -> None:
        """One slice more; OutOfPages: not now."""

    def close(self) -> None:
        """Give back what it holds."""


class Watch(Protocol):
    """Is told what happens, in the engine's thread; seconds."""

    def begun(self, generation: Generation, seconds: float) -> None: ...
    def step(self, engine: Engine, seconds: float) -> None: ...
    def first_token(self, generation: Generation, seconds: float) -> None: ...
    def tokens(self, generation: Generation, count: int, seconds: float) -> None: ...
    def finished(self, generation: Generation, reason: str) -> None: ...


class Engine:
    """`name` is what clients call the model; others wait, at most `max_waiting`, when its batch is full."""

    def __init__(self, llm: LLM, name: str, *, max_waiting: int = 256, watch: Watch | None = None) -> None:
        self.llm = llm
        self.name = name
        self.max_waiting = max_waiting
        self.created = int(time.time())
        self.failures = 0  # steps in a row
        self._watch = watch
        self._live: set[Generation] = set()  # of the event loop
        self._running: dict[Request, Generation] = {}  # of the thread, as all below
        self._work: deque[_Job] = deque()
        self._orders: deque[Callable[[], None]] = deque()
        self._wake = threading.Event()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name=f"engine {name}", daemon=True)

    # --- the event loop's side

    @property
    def healthy(self) -> bool:
        return self._thread.is_alive() and self.failures < SICK

    def start(self) -> None:
        """Begin to step; called on the event loop that will ask."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def admit(self, count: int = 1) -> None:
        """Refuses what there would be no place for even in the queue."""
        most = self.llm.executor.max_sequences + self.max_waiting
        if len(self._live) + count > most:
            raise Refusal(
                429,
                f"{len(self._live)} requests are running or waiting, at most {most} may: try again later",
                code="queue_full",
                retry_after=self._patience(),
            )

    def submit(
        self,
        prompt: list[int],
        params: SamplingParams,
        *,
        priority: int = 0,
        seconds: float = 3600.0,
        cache_salt: str | None = None,
    ) -> Generation:
        """Queue one prompt. Raises UsageError for one that cannot be, Refusal when the queue is full."""
        self.admit()
        request = self.llm.prepare(prompt, params, priority=priority, cache_salt=cache_salt)
        generation = Generation(request, time.monotonic() + seconds)
        self._live.add(generation)
        self._order(lambda: self._begin(generation))
        return generation

    def cancel(self, generation: Generation) -> None:
        """Nobody waits any more: its pages are free before the next step. Done already: nothing happens."""
        if generation in self._live:
            self._live.discard(generation)
            self._order(lambda: self._end(generation, "abort"))

    async def work(self, sliced: Sliced, seconds: float) -> None:
        """Carry it out between steps."""
        job = _Job(sliced, asyncio.get_running_loop().create_future(), time.monotonic() + seconds)
        self._order(lambda: self._work.append(job))
        await job.future  # cancelled with whoever waits

    async def close(self) -> None:
        """End all requests and the thread."""
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def _patience(self) -> int:
        """Seconds after which a place may be free: half of what an answer takes now."""
        ages = [time.monotonic() - generation.arrived for generation in self._live]
        return max(1, min(60, round(max(ages, default=0.0) / 2)))

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        self._wake.set()

    def _deliver(self, news: News) -> None:
        for generation, piece in news:
            if isinstance(piece, Refusal) or piece.finish_reason is not None:
                self._live.discard(generation)
            generation.put(piece)

    # --- the thread's side

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            while self._orders:
                self._orders.popleft()()
            self._expire()
            busy = bool(self._running)
            if self._work:
                self._slice()
            if busy:
                self._step()
            elif not self._work:
                self._wake.wait()
        self._fail(list(self._running), Refusal(503, "the server is shutting down", code="shutting_down"))

    def _begin(self, generation: Generation) -> None:
        try:
            self.llm.add(generation.request)
        except IntaglioError as error:
            self._say([(generation, Refusal(400, str(error)))])
        else:
            self._running[generation.request] = generation

    def _end(self, generation: Generation, reason: str) -> None:
        if self._running.pop(generation.request, None):
            self.llm.drop(generation.request)
            self._finished(generation, reason)

    def _step(self) -> None:
        start = time.monotonic()
        try:
            self.llm.step()
        except Exception as error:
            self._stumble(error)
            return
        self.failures = 0
        now = time.monotonic()
        self._note_begun(start)
        news = [
            (generation, piece)
            for generation in list(self._running.values())
            if (piece := self._piece(generation, now))
        ]
        if news:
            self._say(news)
        if self._watch:
            self._watch.step(self, now - start)

    def _note_begun(self, now: float) -> None:
        """Whose prompts the step that began `now` was the first to compute."""
        for request, generation in self._running.items():
            sequence = request.sequence
            drawn = len(sequence.tokens) > sequence.prompt_length  # and perhaps done, its pages given back
            if generation.begun is None and (sequence.computed or drawn):
                generation.begun = now
                if self._watch:
                    self._watch.begun(generation, now - generation.arrived)

    def _piece(self, generation: Generation, now: float) -> Piece | Refusal | None:
        """What the step gave this one; None: nothing."""
        request = generation.request
        fresh = request.sequence.tokens[request.sequence.prompt_length + generation.shown :]
        if not fresh and not request.finished:
            return None
        self._count(generation, len(fresh), now)
        if request.finish_reason is not None:
            del self._running[request]
            self._finished(generation, request.finish_reason)
        if request.error is not None:
            return Refusal(500, request.error, code="generation_failed")
        logprobs = tuple(request.logprobs[generation.shown - len(fresh) :])
        return Piece(request.fresh(), tuple(fresh), logprobs, request.finish_reason, request.stop_reason)

    def _count(self, generation: Generation, count: int, now: float) -> None:
        before, generation.shown, generation.last = generation.last, generation.shown + count, now
        if generation.first is None:
            generation.first = now
            if self._watch:
                self._watch.first_token(generation, now - generation.arrived)
        elif self._watch and count and before is not None:
            self._watch.tokens(generation, count, now - before)

    def _stumble(self, error: Exception) -> None:
        """A step failed as a whole: its requests end with a sentence, others that come may go on."""
        self.failures += 1
        log.error("a step failed", exc_info=error)
        sentence = str(error) if isinstance(error, IntaglioError) else "the engine failed at this request"
        self._fail(list(self._running), Refusal(500, sentence, code="engine_failed"))

    def _fail(self, requests: Iterable[Request], refusal: Refusal) -> None:
        news: News = []
        for request in requests:
            generation = self._running.pop(request)
            self.llm.drop(request)
            self._finished(generation, "error")
            news.append((generation, refusal))
        self._say(news)

    def _expire(self) -> None:
        now = time.monotonic()
        late = [request for request, generation in self._running.items() if generation.deadline < now]
        self._fail(late, _late())

    def _slice(self) -> None:
        """One slice of one job; the others wait their turn."""
        job = self._work.popleft()
        error: Exception | None = None
        try:
            if not job.over:
                job.sliced.step()
        except OutOfPages:
            pass  # until others give some back
        except Exception as caught:
            error = caught
        if error is None and not job.over:
            self._work.append(job)
            return
        job.sliced.close()
        self._call(job.settle, error)

    def _finished(self, generation: Generation, reason: str) -> None:
        if self._watch:
            self._watch.finished(generation, reason)

    def _say(self, news: News) -> None:
        if news:
            self._call(self._deliver, news)

    def _call(self, call: Callable[..., None], *arguments: object) -> None:
        """On the event loop, unless that has ended."""
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)


class _Job:
    """Sliced work and who waits for it."""

    def __init__(self, sliced: Sliced, future: asyncio.Future[None], deadline: float) -> None:
        self.sliced = sliced
        self.future = future
        self.deadline = deadline

    @property
    def over(self) -> bool:
        """Done, or not wanted any more."""
        return self.sliced.finished or self.future.cancelled() or self.deadline < time.monotonic()

    def settle(self, error: Exception | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        elif not self.sliced.finished:
            self.future.set_exception(_late())
        else:
            self.future.set_result(None)


def _late() -> Refusal:
    return Refusal(504, "the request's deadline has passed", code="deadline_exceeded")
