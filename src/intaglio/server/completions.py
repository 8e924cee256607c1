"""/v1/completions, with `echo` and the prompt's log probabilities."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from intaglio.engine.prompt import listed
from intaglio.engine.sampling import Logprobs
from intaglio.server.answering import Answering, budget, note
from intaglio.server.ask import LIMITS, Ask, Ids
from intaglio.server.generation import Piece
from intaglio.server.json_answer import JsonAnswer
from intaglio.server.prompts import Namer, encode_all, finite
from intaglio.server.refusal import Refusal
from intaglio.server.served import Served
from intaglio.server.sse import EventStream, event, until_gone

routes = APIRouter()
UNASKED = 16  # tokens, where a request does not say: as OpenAI's


class CompletionAsk(Ask):
    """One prompt or several, as texts or tokens."""

    prompt: str | Ids | Annotated[list[str] | list[Ids], Field(min_length=1, max_length=LIMITS.prompts)]
    max_tokens: int | None = Field(default=UNASKED, ge=0, lt=2**31)
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool | None = False
    suffix: str | None = None
    best_of: int | None = Field(default=None, ge=1)

    def check(self) -> None:
        """Refuses what is not done here, rather than to leave it aside."""
        if self.suffix:
            raise Refusal(400, "suffix is not supported: the models here only continue", param="suffix")
        if self.best_of not in (None, self.n):
            raise Refusal(400, f"best_of is {self.best_of}, only n ({self.n}) is supported", param="best_of")
        if self.echo and self.stream:
            raise Refusal(400, "echo is not supported in a stream", param="echo")
        if not self.max_tokens and not self.echo and self.max_tokens is not None:
            raise Refusal(
                400, "max_tokens is 0 and there is no echo: nothing is asked for", param="max_tokens"
            )
        if (count := self.n * len(listed(self.prompt))) > LIMITS.choices * 4:
            raise Refusal(
                400, f"{count} answers in one request, at most {LIMITS.choices * 4} may be", param="n"
            )


@routes.post("/v1/completions")
async def complete(ask: CompletionAsk, request: Request) -> Response:
    """Continue texts, whole or as server-sent events."""
    ask.check()
    served = request.app.state.models.find(ask.model)
    prompts = await encode_all(served, ask.prompt)
    answering = Answering(served, "cmpl", request.app.state.settings.limits)
    completion = _Completion(answering, ask, prompts)
    if ask.max_tokens != 0:
        room = min(budget(served, len(prompt), ask.max_tokens, UNASKED) for prompt in prompts)
        form = await served.compiled(ask.form())
        params = [ask.params(served.defaults, room, ask.logprobs, choice, form) for choice in range(ask.n)]
        answering.begin(ask, prompts, params)
    note(request, answering)
    if ask.stream:
        return EventStream(completion.events(), answering.leave, write_seconds=answering.limits.write_seconds)
    return JsonAnswer(await until_gone(request.receive, completion.whole()))


class _Completion:
    """The texts of one request, in OpenAI's forms."""

    def __init__(self, answering: Answering, ask: CompletionAsk, prompts: list[list[int]]) -> None:
        self._answering = answering
        self._ask = ask
        self._prompts = prompts
        self._namer = Namer(answering.served)

    async def whole(self) -> dict[str, Any]:
        with self._answering.leaving():
            said = await self._said()
            choices = [
                await self._choice(index, self._prompts[index // self._ask.n], piece)
                for index, piece in enumerate(said)
            ]
        head = self._answering.head("text_completion")
        return {**head, "choices": choices, "usage": self._usage()}

    async def events(self) -> AsyncIterator[bytes]:
        head = self._answering.head("text_completion")
        if self._ask.with_usage:
            head["usage"] = None
        offsets = [0] * len(self._answering.generations)
        async for index, piece in self._answering.merged():
            logprobs = self._logprobs(piece.tokens, piece.logprobs, offsets[index])
            offsets[index] += len(piece.text)
            yield event({**head, "choices": [_entry(index, piece.text, piece, logprobs)]})
        if self._ask.with_usage:
            yield event({**head, "choices": [], "usage": self._usage()})

    async def _said(self) -> list[Piece]:
        if self._ask.max_tokens == 0:
            return [Piece("", (), (), "length")] * (len(self._prompts) * self._ask.n)
        return await self._answering.whole()

    async def _choice(self, index: int, prompt: list[int], piece: Piece) -> dict[str, Any]:
        if not self._ask.echo:
            return _entry(index, piece.text, piece, self._logprobs(piece.tokens, piece.logprobs, 0))
        served, wanted = self._answering.served, self._ask.logprobs
        text = served.tokenizer.decode(prompt, skip_special=False)
        logprobs = None
        if wanted is not None:
            scored = await score(served, prompt, wanted, self._ask.seconds(self._answering.limits.seconds))
            logprobs = self._logprobs((*prompt, *piece.tokens), (None, *scored, *piece.logprobs), 0)
        return _entry(index, text + piece.text, piece, logprobs)

    def _logprobs(
        self, tokens: tuple[int, ...], found: tuple[Logprobs | None, ...], offset: int
    ) -> dict[str, Any] | None:
        if self._ask.logprobs is None:
            return None
        texts = [self._namer.text(token) for token in tokens]
        offsets = [offset]
        for text in texts[:-1]:
            offsets.append(offsets[-1] + len(text))
        return {
            "tokens": texts,
            "token_logprobs": [None if one is None else finite(one.logprob) for one in found],
            "top_logprobs": [None if one is None else self._namer.top(one) for one in found],
            "text_offset": offsets[: len(texts)],
        }

    def _usage(self) -> dict[str, Any]:
        if self._answering.generations:
            return self._answering.usage(self._ask.n)
        prompt = sum(map(len, self._prompts))
        return {"prompt_tokens": prompt, "completion_tokens": 0, "total_tokens": prompt}


async def score(served: Served, prompt: list[int], top: int, seconds: float) -> list[Logprobs]:
    """Of every token of the prompt but the first, computed between the steps of others."""
    started = served.llm.start_score(prompt, top=top)
    await served.engine.work(started, seconds)
    return started.logprobs


def _entry(index: int, text: str, piece: Piece, logprobs: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "index": index,
        "text": text,
        "logprobs": logprobs,
        "finish_reason": piece.finish_reason,
        "stop_reason": piece.stop_reason,
    }
