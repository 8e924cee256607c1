"""What an answer that calls functions is made of: words, and pieces of calls, in OpenAI's form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Words:
    """A piece of the answer's text."""

    text: str


@dataclass(frozen=True)
class CallPiece:
    """A piece of call number `index`; the first has its id and name, all have some of its arguments' text."""

    index: int
    arguments: str
    id: str | None = None
    name: str | None = None

    def delta(self) -> dict[str, Any]:
        """An element of OpenAI's delta.tool_calls."""
        if self.name is None:
            return {"index": self.index, "function": {"arguments": self.arguments}}
        function = {"name": self.name, "arguments": self.arguments}
        return {"index": self.index, "id": self.id, "type": "function", "function": function}


def whole(pieces: Iterable[Words | CallPiece]) -> tuple[str | None, list[dict[str, Any]]]:
    """A whole answer: OpenAI's message.content and message.tool_calls."""
    words: list[str] = []
    calls: list[dict[str, Any]] = []
    for piece in pieces:
        match piece:
            case Words(text):
                words.append(text)
            case CallPiece(arguments=text, name=None):
                calls[-1]["function"]["arguments"] += text
            case CallPiece():
                calls.append({key: value for key, value in piece.delta().items() if key != "index"})
    return ("".join(words) or None) if calls else "".join(words), calls
