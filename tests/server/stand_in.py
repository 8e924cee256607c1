"""A stand-in for an LLM: the real scheduler and sequences, and tokens that cost nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from intaglio.engine.output import SamplingParams
from intaglio.engine.pages import PAGE, PagePool
from intaglio.engine.sampling import GREEDY
from intaglio.engine.scheduler import Scheduler
from intaglio.engine.sequence import Sequence
from intaglio.server.engine import Engine, Watch
from intaglio.server.generation import Generation

PLAN = [
    SimpleNamespace(kernel="two_level", sites=("q", "k", "v")),
    SimpleNamespace(kernel="two_level", sites=("o",)),
    SimpleNamespace(kernel="decoded", sites=("head",)),
]


@dataclass(eq=False)
class Said:
    """As `Request`."""

    sequence: Sequence
    params: SamplingParams
    finish_reason: str | None = None
    stop_reason: None = None
    error: str | None = None
    logprobs: tuple[()] = ()
    timing: Any = field(default_factory=lambda: SimpleNamespace(cached_tokens=0))

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    def fresh(self) -> str:
        return "x"


class StandIn:
    """Says 7 again and again. `fails`: so many of its next steps do; `refuses`: why its next request does."""

    def __init__(self, *, pages: int = 64, max_tokens: int = 128, max_sequences: int = 4) -> None:
        pool = PagePool(pages)
        self.scheduler = Scheduler(
            pool, max_tokens=max_tokens, max_sequences=max_sequences, prefix_cache=True
        )
        self.executor = SimpleNamespace(
            max_sequences=max_sequences, pool=pool, plan=PLAN, cache_nbytes=pages * PAGE * 96
        )
        matrix = SimpleNamespace(shape=(8, 16), bias=None)
        self.checkpoint = SimpleNamespace(nbytes=64, linears={"q": matrix}, vectors={})
        self.fails = 0
        self.refuses: str | None = None
        self._requests: list[Said] = []

    def prepare(self, prompt: list[int], params: SamplingParams, **_: object) -> Said:
        return Said(Sequence(prompt, GREEDY, len(prompt) + params.max_tokens), params)

    def add(self, request: Said) -> None:
        self.scheduler.add(request.sequence)
        self._requests.append(request)

    def drop(self, request: Said) -> None:
        request.finish_reason = request.finish_reason or "abort"
        if request in self._requests:
            self._requests.remove(request)
            self.scheduler.remove(request.sequence)

    def step(self) -> None:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("no luck")
        chunks = self.scheduler.schedule()
        drawing = [chunk.sequence for chunk in chunks if chunk.draws]
        self.scheduler.advance(chunks, [0] * len(chunks))
        for request in [one for one in self._requests if one.sequence in drawing]:
            if self.refuses:
                request.finish_reason = "error"  # as the engine has it
                request.error, self.refuses = self.refuses, None
                self.drop(request)
                continue
            request.sequence.tokens.append(7)
            if request.sequence.full:
                request.finish_reason = "length"
                self.drop(request)


def served(llm: StandIn, watch: Watch | None = None, name: str = "m") -> Any:
    """As `Served`, of an engine that is not started."""
    engine = Engine(llm, name, watch=watch)  # type: ignore[arg-type]
    return SimpleNamespace(engine=engine, llm=llm, name=name)


def answering(llm: StandIn, prompts: list[list[int]], params: SamplingParams, choices: int = 1) -> Any:
    """As `Answering`, when all was said; 4 tokens of each prompt were cached."""
    now = time.monotonic()
    generations = []
    for prompt in [prompt for prompt in prompts for _ in range(choices)]:
        request = llm.prepare(prompt, params)
        request.finish_reason, request.timing = "length", SimpleNamespace(cached_tokens=4)
        generation = Generation(request, now + 60, arrived=now - 1)  # type: ignore[arg-type]
        generation.begun, generation.first, generation.last = now - 0.75, now - 0.5, now
        generation.shown = params.max_tokens
        generations.append(generation)
    model = SimpleNamespace(name="m")
    return SimpleNamespace(
        served=model, kind="chatcmpl", id="chatcmpl-1", generations=generations, choices=choices
    )
