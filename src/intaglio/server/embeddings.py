"""/v1/embeddings: the mean, over a text's tokens, of the last hidden state after the final norm."""

from __future__ import annotations

import asyncio
import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from intaglio.server.ask import LIMITS, Ids
from intaglio.server.json_answer import JsonAnswer
from intaglio.server.prompts import encode_all
from intaglio.server.refusal import Refusal
from intaglio.server.served import Served
from intaglio.server.sse import until_gone
from intaglio.types import Array

routes = APIRouter()
Text = Annotated[str, Field(min_length=1)]


class EmbeddingAsk(BaseModel):
    """One text or several, as texts or tokens."""

    model: str | None = Field(default=None, max_length=256)
    input: Text | Ids | Annotated[list[Text] | list[Ids], Field(min_length=1, max_length=LIMITS.prompts)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = Field(default=None, max_length=512)


@routes.post("/v1/embeddings")
async def embed(ask: EmbeddingAsk, request: Request) -> Response:
    """Embed texts."""
    served = request.app.state.models.find(ask.model)
    if ask.dimensions not in (None, size := served.llm.checkpoint.spec.hidden_size):
        raise Refusal(400, f"dimensions is {ask.dimensions}, {served.name} gives {size}", param="dimensions")
    prompts = await encode_all(served, ask.input)
    served.engine.admit()
    found = await until_gone(
        request.receive, _all(served, prompts, request.app.state.settings.limits.seconds)
    )
    data = [_entry(index, vector, ask.encoding_format) for index, vector in enumerate(found)]
    count = sum(map(len, prompts))
    usage = {"prompt_tokens": count, "total_tokens": count}
    return JsonAnswer({"object": "list", "data": data, "model": served.name, "usage": usage})


async def _all(served: Served, prompts: list[list[int]], seconds: float) -> list[Array]:
    started = [served.llm.start_embedding(prompt) for prompt in prompts]
    await asyncio.gather(*(served.engine.work(one, seconds) for one in started))
    return [one.vector for one in started]


def _entry(index: int, vector: Array, form: str) -> dict[str, Any]:
    floats = np.asarray(vector, np.float32)
    value = base64.b64encode(floats.tobytes()).decode() if form == "base64" else floats.tolist()
    return {"object": "embedding", "index": index, "embedding": value}
