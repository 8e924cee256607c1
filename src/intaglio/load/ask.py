"""Ask: one request, ready to be sent."""

from __future__ import annotations

from typing import Any

import msgspec

Prompt = str | list[int] | list[dict[str, Any]]


class Ask(msgspec.Struct, frozen=True):
    """`tokens`: of its prompt, where that is known; `limit`: of its answer."""

    index: int
    part: str
    body: bytes
    tokens: int | None
    limit: int


class Form(msgspec.Struct, frozen=True):
    """What every request of a load has in common. `extra` has the last word."""

    model: str
    chat: bool
    ignore_eos: bool
    extra: dict[str, Any]

    def body(self, prompt: Prompt, limit: int) -> bytes:
        """The request as JSON; a prompt that is a text is a user's message where messages are asked for."""
        fields: dict[str, Any] = {"model": self.model}
        if not self.chat:
            fields["prompt"] = prompt
        elif isinstance(prompt, str):
            fields["messages"] = [{"role": "user", "content": prompt}]
        else:
            fields["messages"] = prompt
        # max_tokens: the one name for it that every server knows
        fields |= {"max_tokens": limit, "stream": True, "stream_options": {"include_usage": True}}
        if self.ignore_eos:
            fields["ignore_eos"] = True
        return msgspec.json.encode(fields | self.extra)
