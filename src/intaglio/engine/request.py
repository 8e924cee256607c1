"""A request: one prompt on its way to text. It turns drawn tokens into pieces and knows when to stop."""

from __future__ import annotations

import time
from collections.abc import Collection
from collections.abc import Sequence as Many
from itertools import takewhile
from typing import Protocol

import numpy as np

from intaglio.engine.mask import allows, everything, without, words_of
from intaglio.engine.output import CompletionOutput, FinishReason, RequestOutput, SamplingParams, Timing
from intaglio.engine.sampling import Logprobs
from intaglio.engine.sequence import Sequence
from intaglio.engine.stop import StopBuffer
from intaglio.errors import IntaglioError
from intaglio.types import Array


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
        vocab: int,
    ) -> None:
        self.number = number
        self.prompt = prompt
        self.sequence = sequence
        self.params = params
        self.steps = 0  # that gave it tokens
        self.finish_reason: FinishReason | None = None
        self.stop_reason: str | int | None = None
        self.failure: Exception | None = None  # what ended it, if that was an error of its own
        self._decoder = decoder
        self._stop = StopBuffer(params.stop_strings)
        self._ends = ends
        self._vocab = vocab
        self._logprobs: list[Logprobs] = []
        self._pieces: list[str] = []
        self._shown = 0
        self._started = self._first = self._last = time.perf_counter()
        self._entered: float | None = None

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    @property
    def error(self) -> str | None:
        """Why it failed, in a sentence that may be shown to anyone."""
        match self.failure:
            case None:
                return None
            case IntaglioError():
                return str(self.failure)
            case _:
                return f"request {self.number} failed by an internal error"

    @property
    def logprobs(self) -> Many[Logprobs]:
        """Of the tokens so far, if they were asked for."""
        return self._logprobs

    def fresh(self) -> str:
        """The text that came since this was last asked."""
        new = "".join(self._pieces[self._shown :])
        self._shown = len(self._pieces)
        return new

    def masks(self, drafts: list[int]) -> tuple[list[int], Array | None]:
        """The drafts that can be drawn at all, and the masks of the draws: uint32 (1 + drafts, words).

        Nothing follows an end, so drafts end before it. Masks are None where everything is allowed.
        """
        drafts = list(takewhile(lambda token: token not in self._ends, drafts))
        length = len(self.sequence.tokens) - self.sequence.prompt_length
        if self.params.token_mask is None and length >= self.params.min_tokens:
            return drafts, None
        said, masks = self.sequence.output, [self._mask(self.sequence.output)]
        if not masks[0].any():
            raise IntaglioError(f"request {self.number}: its mask allows no token after {length} tokens")
        for token in drafts:
            if not allows(masks[-1], token):
                break
            said.append(token)
            if not (mask := self._mask(said)).any():
                break
            masks.append(mask)
        return drafts[: len(masks) - 1], np.stack(masks)

    def enter(self) -> None:
        """Its tokens are about to be computed, for the first time or again."""
        if self._entered is None:
            self._entered = time.perf_counter()

    def take(self, token: int, logprobs: Logprobs | None) -> None:
        """One drawn token: the sequence grows by it."""
        self._last = time.perf_counter()
        if len(self.sequence.tokens) == self.sequence.prompt_length:
            self._first = self._last
        self.sequence.tokens.append(token)
        if logprobs is not None:
            self._logprobs.append(logprobs)
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

    def fail(self, error: Exception) -> None:
        """It cannot go on. What was held back of its text stays hidden."""
        self.finish_reason, self.failure = "error", error

    def output(self) -> RequestOutput:
        assert self.finish_reason is not None
        completion = CompletionOutput(
            text=self.text,
            token_ids=tuple(self.sequence.output),
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
            logprobs=None if self.params.logprobs is None else tuple(self._logprobs),
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
            steps=self.steps,
            drafted=self.sequence.drafts.drafted,
            accepted=self.sequence.drafts.accepted,
            cached_tokens=self.sequence.cached,
            queued=(self._entered or self._last) - self._started,
        )

    def _mask(self, said: list[int]) -> Array:
        """Of the token after those `said`: uint32 (words,)."""
        mask = None if self.params.token_mask is None else self.params.token_mask(said)
        if mask is None:
            mask = everything(self._vocab)
        elif mask.shape != (words_of(self._vocab),) or mask.dtype.kind not in "iu" or mask.itemsize != 4:
            raise IntaglioError(
                f"request {self.number}: its mask is {mask.dtype} {mask.shape},"
                f" expected {words_of(self._vocab)} words of 32 bits"
            )
        mask = mask.copy().view(np.uint32)  # llguidance's are int32, and one buffer is filled again and again
        return without(mask, self._ends) if len(said) < self.params.min_tokens else mask

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
