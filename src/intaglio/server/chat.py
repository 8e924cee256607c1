"""/v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from intaglio.server.answering import Answering, budget, note
from intaglio.server.ask import LIMITS, Ask
from intaglio.server.generation import Piece
from intaglio.server.json_answer import JsonAnswer
from intaglio.server.prompts import Namer, conversation
from intaglio.server.refusal import Refusal
from intaglio.server.sse import EventStream, event, until_gone

routes = APIRouter()


class TextPart(BaseModel):
    """A part of a message; other kinds than text are refused."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message; what a template does not know it leaves aside."""

    model_config = ConfigDict(extra="allow")
    role: Annotated[str, Field(min_length=1, max_length=32)]
    content: str | list[TextPart] | None = None

    def plain(self) -> dict[str, Any]:
        """As templates expect it: content is one text."""
        given = self.model_dump(exclude_none=True)
        content = self.content
        if isinstance(content, list):
            content = "".join(part.text for part in content)
        return {**given, "content": content or ""}


class ChatAsk(Ask):
    """A conversation to be continued."""

    messages: list[Message] = Field(min_length=1, max_length=LIMITS.messages)
    max_tokens: int | None = Field(default=None, ge=1, lt=2**31, description="Deprecated by OpenAI.")
    max_completion_tokens: int | None = Field(default=None, ge=1, lt=2**31)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    def asked_logprobs(self) -> int | None:
        if self.top_logprobs is not None and not self.logprobs:
            raise Refusal(400, "top_logprobs needs logprobs to be true", param="top_logprobs")
        return (self.top_logprobs or 0) if self.logprobs else None


@routes.post("/v1/chat/completions")
async def complete(ask: ChatAsk, request: Request) -> Response:
    """Answer a conversation, whole or as server-sent events."""
    served = request.app.state.models.find(ask.model)
    prompt = await conversation(served, [message.plain() for message in ask.messages])
    room = budget(served, len(prompt), ask.max_completion_tokens or ask.max_tokens, None)
    mask = served.grammars.mask(spec) if (spec := ask.spec()) else None
    params = [
        replace(ask.params(served.defaults, room, ask.asked_logprobs(), choice), token_mask=mask and mask())
        for choice in range(ask.n)
    ]
    answering = Answering(served, "chatcmpl", request.app.state.settings.limits)
    answering.begin(ask, [prompt], params)
    note(request, answering)
    chat = _Chat(answering, ask)
    if ask.stream:
        return EventStream(chat.events(), answering.leave, write_seconds=answering.limits.write_seconds)
    return JsonAnswer(await until_gone(request.receive, chat.whole()))


class _Chat:
    """The words of one answer, in OpenAI's forms."""

    def __init__(self, answering: Answering, ask: ChatAsk) -> None:
        self._answering = answering
        self._ask = ask
        self._namer = Namer(answering.served)

    async def whole(self) -> dict[str, Any]:
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": piece.text, "refusal": None},
                "logprobs": self._logprobs(piece),
                "finish_reason": piece.finish_reason,
                "stop_reason": piece.stop_reason,
            }
            for index, piece in enumerate(await self._answering.whole())
        ]
        usage = self._answering.usage(self._ask.n)
        return {**self._answering.head("chat.completion"), "choices": choices, "usage": usage}

    async def events(self) -> AsyncIterator[bytes]:
        head = self._answering.head("chat.completion.chunk")
        if self._ask.with_usage:
            head["usage"] = None
        for index in range(self._ask.n):
            yield event({**head, "choices": [_delta(index, {"role": "assistant", "content": ""})]})
        async for index, piece in self._answering.merged():
            delta = {"content": piece.text} if piece.text or piece.finish_reason is None else {}
            choice = _delta(index, delta, piece.finish_reason, self._logprobs(piece))
            yield event({**head, "choices": [choice]})
        if self._ask.with_usage:
            yield event({**head, "choices": [], "usage": self._answering.usage(self._ask.n)})

    def _logprobs(self, piece: Piece) -> dict[str, Any] | None:
        if not self._ask.logprobs:
            return None
        pairs = zip(piece.tokens, piece.logprobs, strict=True)
        return {"content": [self._namer.chat(*pair) for pair in pairs], "refusal": None}


def _delta(
    index: int,
    delta: dict[str, Any],
    finish_reason: str | None = None,
    logprobs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
