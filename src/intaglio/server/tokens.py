"""/tokenize, /detokenize and /tokenizer_info, as vLLM has them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, model_validator
from starlette.responses import Response

from intaglio.server.ask import LIMITS, TokenId
from intaglio.server.chat import Message
from intaglio.server.json_answer import JsonAnswer
from intaglio.server.prompts import conversation, encode
from intaglio.server.refusal import Refusal

routes = APIRouter()


class TokenizeAsk(BaseModel):
    """A text or a conversation."""

    model: str | None = Field(default=None, max_length=256)
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=LIMITS.messages)] | None = None
    add_special_tokens: bool = True
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _one_of_them(self) -> TokenizeAsk:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give a prompt or messages, one of them")
        return self


class DetokenizeAsk(BaseModel):
    """Tokens."""

    model: str | None = Field(default=None, max_length=256)
    tokens: list[TokenId] = Field(max_length=1 << 20)


@routes.post("/tokenize")
async def tokenize(ask: TokenizeAsk, request: Request) -> Response:
    """The tokens of a text, or of a conversation in the model's template."""
    served = request.app.state.models.find(ask.model)
    if ask.messages is not None:
        ids = await conversation(served, [message.plain() for message in ask.messages])
    else:
        ids = await encode(served, ask.prompt or "", special=ask.add_special_tokens)
    answer: dict[str, Any] = {"count": len(ids), "max_model_len": served.max_context, "tokens": ids}
    if ask.return_token_strs:
        answer["token_strs"] = [served.tokenizer.decode([token], skip_special=False) for token in ids]
    return JsonAnswer(answer)


@routes.post("/detokenize")
async def detokenize(ask: DetokenizeAsk, request: Request) -> Response:
    """The text of tokens, control tokens included."""
    served = request.app.state.models.find(ask.model)
    vocab = served.llm.checkpoint.spec.vocab_size
    if outside := [token for token in ask.tokens if token >= vocab]:
        raise Refusal(400, f"token {outside[0]} is outside the vocabulary of {vocab}", param="tokens")
    return JsonAnswer({"prompt": served.tokenizer.decode(ask.tokens, skip_special=False)})


@routes.get("/tokenizer_info")
async def tokenizer_info(request: Request, model: str | None = None) -> Response:
    """What a client must know to prepare prompts itself: special tokens, the template, the context."""
    served = request.app.state.models.find(model)
    told: dict[str, Any] = {
        **served.tokenizer.special_tokens,
        "chat_template": served.tokenizer.template_source,
        "model_max_length": served.max_context,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    return JsonAnswer(told)
