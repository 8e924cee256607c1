"""From what a client sends to tokens, and back to what it is told about them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from intaglio.engine.prompt import Prompt, listed
from intaglio.engine.sampling import Logprobs
from intaglio.server.served import Served

LONG = 20_000  # characters from which a text is tokenized beside the event loop


async def encode(served: Served, text: str, *, special: bool = True) -> list[int]:
    """Tokens of a text."""
    if len(text) < LONG:
        return served.llm.encode(text, special=special)
    return await asyncio.to_thread(served.llm.encode, text, special=special)


async def encode_all(served: Served, prompts: Prompt | Sequence[Prompt]) -> list[list[int]]:
    """Tokens of each prompt, which may have come as tokens."""
    return [
        await encode(served, prompt) if isinstance(prompt, str) else list(prompt)
        for prompt in listed(prompts)
    ]


async def conversation(
    served: Served, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
) -> list[int]:
    """Tokens of a conversation in the model's template, ready for the answer."""
    text = served.tokenizer.chat(messages, tools=tools)
    return await encode(served, text, special=False)


class Namer:
    """Tokens as the texts that log probabilities name them by."""

    def __init__(self, served: Served) -> None:
        self._decode = served.tokenizer.decode

    def text(self, token: int) -> str:
        return self._decode([token], skip_special=False) if token >= 0 else ""

    def entry(self, token: int, logprob: float) -> dict[str, Any]:
        text = self.text(token)
        return {"token": text, "logprob": finite(logprob), "bytes": list(text.encode())}

    def chat(self, token: int, found: Logprobs) -> dict[str, Any]:
        """One element of a chat choice's logprobs.content."""
        top = [self.entry(t, p) for t, p in zip(found.tokens, found.logprobs, strict=True) if t >= 0]
        return {**self.entry(token, found.logprob), "top_logprobs": top}

    def top(self, found: Logprobs) -> dict[str, float]:
        """The likeliest tokens of a plain completion; those of equal text are one, the likelier."""
        named: dict[str, float] = {}
        for token, logprob in zip(found.tokens, found.logprobs, strict=True):
            if token >= 0:
                named.setdefault(self.text(token), finite(logprob))
        return named


def finite(logprob: float) -> float:
    """JSON has no infinity."""
    return max(logprob, -9999.0)


def usage(prompt: int, cached: int, output: int) -> dict[str, Any]:
    """What a request cost, in tokens."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
