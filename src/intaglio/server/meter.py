"""A meter: counts what one engine does, in its thread, cheaply enough to do so for every token.

Each number has one writer, the engine's thread. Scrapes read them from other threads, which the GIL makes
safe: an int is read whole, and a tally copies its list in one step. Names and buckets are vLLM's, so that
what watches a vLLM can watch this; some buckets go further down, for small models.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from intaglio.server.rate import Rate
from intaglio.server.tally import Tally

if TYPE_CHECKING:
    from intaglio.server.engine import Engine
    from intaglio.server.generation import Generation

FIRST = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
    640,
)
BETWEEN = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10, 40),
)
WHOLE = (
    *(0.01, 0.03, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60),
    *(120, 240, 480, 960, 1920, 3600),
)
LENGTH = tuple(digit * 10**power for power in range(6) for digit in (1, 2, 5))
STEP = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)

HISTOGRAMS = {
    "time_to_first_token_seconds": ("From a request's arrival to its first token.", FIRST),
    "inter_token_latency_seconds": ("Between two tokens of an answer.", BETWEEN),
    "e2e_request_latency_seconds": ("From a request's arrival to its last token, of those answered.", WHOLE),
    "request_queue_time_seconds": ("From a request's arrival until its prompt began to be computed.", WHOLE),
    "request_prefill_time_seconds": ("From there to its first token.", WHOLE),
    "request_decode_time_seconds": ("From its first token to its last, of those answered.", WHOLE),
    "request_prompt_tokens": ("Tokens of a prompt, of requests answered.", LENGTH),
    "request_generation_tokens": ("Tokens of an answer.", LENGTH),
    "iteration_tokens_total": ("Tokens of prompts and answers in one step of the engine.", STEP),
    "iteration_duration_seconds": ("One step of the engine.", BETWEEN),
}
COUNTERS = {
    "prompt_tokens": "Tokens of prompts processed, cached ones included.",
    "generation_tokens": "Tokens generated.",
    "spec_decode_num_draft_tokens": "Tokens drafted, of finished requests.",
    "spec_decode_num_accepted_tokens": "Of these, those that were right.",
}
ANSWERED = ("stop", "length")
REASONS = (*ANSWERED, "abort", "error")


class Meter:
    """The `Watch` of one engine."""

    def __init__(self) -> None:
        self.tallies = {name: Tally(bounds) for name, (_, bounds) in HISTOGRAMS.items()}
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.finished_by = dict.fromkeys(REASONS, 0)
        self.prompt_rate = Rate()
        self.generation_rate = Rate()
        self._prefilling: dict[Generation, int] = {}  # tokens of its prompt counted so far
        self._prompt = self._generated = 0  # tokens of the step under way
        self._between = self.tallies["inter_token_latency_seconds"]
        self._sizes = self.tallies["iteration_tokens_total"]
        self._durations = self.tallies["iteration_duration_seconds"]

    def begun(self, generation: Generation, seconds: float) -> None:
        """Its prompt begins to be computed, so long after it arrived."""
        self.tallies["request_queue_time_seconds"].observe(seconds)
        self._prefilling[generation] = 0

    def first_token(self, generation: Generation, seconds: float) -> None:
        """The first came, and with it as many more as `shown` says; it may have ended without any."""
        if not generation.shown:
            return
        self._generated += generation.shown
        self._prompt += generation.prompt_tokens - self._prefilling.pop(generation, 0)
        self.tallies["time_to_first_token_seconds"].observe(seconds)
        if generation.begun is not None and generation.first is not None:
            self.tallies["request_prefill_time_seconds"].observe(generation.first - generation.begun)

    def tokens(self, generation: Generation, count: int, seconds: float) -> None:
        """More came at once, so long after the last: drafts that were right share the time."""
        self._generated += count
        self._between.observe(seconds / count, count)

    def step(self, engine: Engine, seconds: float) -> None:
        """A step is over, and everything that came of it was told."""
        for generation in self._prefilling:
            self._prompt += self._progress(generation)
        now, prompt, generated = time.monotonic(), self._prompt, self._generated
        if prompt:
            self.counts["prompt_tokens"] += prompt
            self.prompt_rate.add(prompt, now)
        if generated:
            self.counts["generation_tokens"] += generated
            self.generation_rate.add(generated, now)
        self._prompt = self._generated = 0
        self._sizes.observe(prompt + generated)
        self._durations.observe(seconds)

    def finished(self, generation: Generation, reason: str) -> None:
        """It is over, however it ended."""
        self._prefilling.pop(generation, None)
        self.finished_by[reason] += 1
        drafts = generation.request.sequence.drafts
        self.counts["spec_decode_num_draft_tokens"] += drafts.drafted
        self.counts["spec_decode_num_accepted_tokens"] += drafts.accepted
        if reason in ANSWERED:
            self._answered(generation)

    def _answered(self, generation: Generation) -> None:
        assert generation.first is not None
        assert generation.last is not None
        tallies = self.tallies
        tallies["e2e_request_latency_seconds"].observe(generation.last - generation.arrived)
        tallies["request_decode_time_seconds"].observe(generation.last - generation.first)
        tallies["request_prompt_tokens"].observe(generation.prompt_tokens)
        tallies["request_generation_tokens"].observe(generation.shown)

    def _progress(self, generation: Generation) -> int:
        """Tokens of its prompt computed since this was last asked; after a preemption only new ones."""
        done = min(generation.request.sequence.computed, generation.prompt_tokens)
        fresh = max(0, done - self._prefilling[generation])
        self._prefilling[generation] += fresh
        return fresh
