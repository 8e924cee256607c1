"""A request: one prompt on its way to text. It turns drawn tokens into pieces and knows when to stop."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Protocol

from intaglio.engine.output import CompletionOutput, FinishReason, RequestOutput, SamplingParams, Timing
from intaglio.engine.sequence import Sequence
from intaglio.engine.stop import StopBuffer


class Decoder(Protocol):
    """Tokens in, text out as soon as its characters are whole."""

    def push(self, token: int) -> str: ...
    def flush(self) -> str: ...


class Request:
    """The text side of a sequence."""

    def __init__(
        self,
        number: int,
        prompt: str | None,
        sequence: Sequence,
        params: SamplingParams,
        decoder: Decoder,
        ends: Collection[int],
    ) -> None:
        self.number = number
        self.prompt = prompt
        self.sequence = sequence
        self.params = params
        self.finish_reason: FinishReason | None = None
        self.stop_reason: str | int | None = None
        self._decoder = decoder
        self._stop = StopBuffer(params.stop_strings)
        self._ends = ends
        self._logprobs: list[float] = []
        self._pieces: list[str] = []
        self._shown = 0
        self._started = self._first = self._last = time.perf_counter()

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    def fresh(self) -> str:
        """The text that came since this was last asked."""
        new = "".join(self._pieces[self._shown :])
        self._shown = len(self._pieces)
        return new

    def take(self, token: int, logprob: float | None) -> None:
        """One drawn token, already appended to the sequence."""
        self._last = time.perf_counter()
        if len(self.sequence.output) == 1:
            self._first = self._last
        if logprob is not None:
            self._logprobs.append(logprob)
        if token in self._ends:
            self._finish("stop", token)
            return
        self._show(self._stop.push(self._decoder.push(token)))
        if self._stop.matched is not None:
            self._finish("stop", self._stop.matched)
        elif self.sequence.full:
            self._finish("length", None)

    def abort(self) -> None:
        """Nobody wants the rest."""
        if not self.finished:
            self._finish("abort", None)

    def output(self) -> RequestOutput:
        assert self.finish_reason is not None
        completion = CompletionOutput(
            text=self.text,
            token_ids=tuple(self.sequence.output),
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
            logprobs=tuple(self._logprobs) if self.params.logprobs else None,
        )
        prompt_ids = tuple(self.sequence.tokens[: self.sequence.prompt_length])
        return RequestOutput(self.number, self.prompt, prompt_ids, (completion,), self.timing)

    @property
    def timing(self) -> Timing:
        return Timing(
            prompt_tokens=self.sequence.prompt_length,
            output_tokens=len(self.sequence.output),
            prefill=self._first - self._started,
            decode=self._last - self._first,
        )

    def _finish(self, reason: FinishReason, cause: str | int | None) -> None:
        """Show what was held back, unless a stop string cut it off."""
        if self._stop.matched is None:
            self._show(self._stop.push(self._decoder.flush()) + self._stop.flush())
        if self._stop.matched is not None:  # the decoder's rest may have completed one
            reason, cause = "stop", self._stop.matched
        self.finish_reason, self.stop_reason = reason, cause

    def _show(self, text: str) -> None:
        if text:
            self._pieces.append(text)
