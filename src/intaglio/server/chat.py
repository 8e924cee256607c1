"""/v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from intaglio.server.answering import Answering, budget, note
from intaglio.server.ask import BOUNDS, LIMITS, Ask
from intaglio.server.generation import Piece
from intaglio.server.json_answer import JsonAnswer
from intaglio.server.prompts import Namer, conversation
from intaglio.server.refusal import Refusal
from intaglio.server.served import Served
from intaglio.server.sse import EventStream, event, until_gone
from intaglio.server.tool_pieces import CallPiece, Words, whole
from intaglio.server.tools import Tools

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

    tools: list[dict[str, Any]] | None = Field(default=None, description="Functions that may be called.")
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None

    def offered(self, served: Served) -> Tools:
        """The functions that the model may call."""
        return Tools.parse(
            self.tools, self.tool_choice, self.parallel_tool_calls, tokenizer=served.tokenizer, bounds=BOUNDS
        )

    def asked_logprobs(self) -> int | None:
        if self.top_logprobs is not None and not self.logprobs:
            raise Refusal(400, "top_logprobs needs logprobs to be true", param="top_logprobs")
        return (self.top_logprobs or 0) if self.logprobs else None


@routes.post("/v1/chat/completions")
async def complete(ask: ChatAsk, request: Request) -> Response:
    """Answer a conversation, whole or as server-sent events."""
    served = request.app.state.models.find(ask.model)
    tools = ask.offered(served)
    messages = tools.messages([message.plain() for message in ask.messages])
    prompt = await conversation(served, messages, tools.for_template)
    room = budget(served, len(prompt), ask.max_completion_tokens or ask.max_tokens, None)
    form = await served.compiled(tools.grammar(ask.form()))
    if tools.needs_control_tokens:
        ask.skip_special_tokens = False
    wanted = ask.asked_logprobs()
    params = [ask.params(served.defaults, room, wanted, choice, form) for choice in range(ask.n)]
    answering = Answering(served, "chatcmpl", request.app.state.settings.limits)
    answering.begin(ask, [prompt], params)
    note(request, answering)
    chat = _Chat(answering, ask, tools)
    if ask.stream:
        return EventStream(chat.events(), answering.leave, write_seconds=answering.limits.write_seconds)
    return JsonAnswer(await until_gone(request.receive, chat.whole()))


class _Chat:
    """The words and calls of one answer, in OpenAI's forms."""

    def __init__(self, answering: Answering, ask: ChatAsk, tools: Tools) -> None:
        self._answering = answering
        self._ask = ask
        self._namer = Namer(answering.served)
        self._parsers = [tools.parser() for _ in range(ask.n)]

    async def whole(self) -> dict[str, Any]:
        choices = [self._choice(index, piece) for index, piece in enumerate(await self._answering.whole())]
        usage = self._answering.usage(self._ask.n)
        return {**self._answering.head("chat.completion"), "choices": choices, "usage": usage}

    async def events(self) -> AsyncIterator[bytes]:
        head = self._answering.head("chat.completion.chunk")
        if self._ask.with_usage:
            head["usage"] = None
        for index in range(self._ask.n):
            yield event({**head, "choices": [_delta(index, {"role": "assistant", "content": ""})]})
        async for index, piece in self._answering.merged():
            for choice in self._deltas(index, piece):
                yield event({**head, "choices": [choice]})
        if self._ask.with_usage:
            yield event({**head, "choices": [], "usage": self._answering.usage(self._ask.n)})

    def _choice(self, index: int, piece: Piece) -> dict[str, Any]:
        parser = self._parsers[index]
        content, calls = whole([*parser.push(piece.text), *parser.finish()])
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if calls:
            message["tool_calls"] = calls
        return {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(piece),
            "finish_reason": parser.finish_reason(piece.finish_reason or ""),
            "stop_reason": piece.stop_reason,
        }

    def _deltas(self, index: int, piece: Piece) -> Iterator[dict[str, Any]]:
        """What a piece adds: words and calls, each on its own; the last of them carries the rest."""
        parser, reason = self._parsers[index], piece.finish_reason
        news = [*parser.push(piece.text), *(parser.finish() if reason else ())]
        deltas = [_said(one) for one in news] or [{}]
        if deltas == [{}] and reason is None and not self._ask.logprobs:
            return  # held back until it is certain
        for delta in deltas[:-1]:
            yield _delta(index, delta)
        told = reason and parser.finish_reason(reason)
        yield _delta(index, deltas[-1], told, self._logprobs(piece))

    def _logprobs(self, piece: Piece) -> dict[str, Any] | None:
        if not self._ask.logprobs:
            return None
        pairs = zip(piece.tokens, piece.logprobs, strict=True)
        return {"content": [self._namer.chat(*pair) for pair in pairs], "refusal": None}


def _said(piece: Words | CallPiece) -> dict[str, Any]:
    match piece:
        case Words(text):
            return {"content": text}
        case CallPiece():
            return {"tool_calls": [piece.delta()]}


def _delta(
    index: int,
    delta: dict[str, Any],
    finish_reason: str | None = None,
    logprobs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
