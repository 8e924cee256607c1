"""How models write calls of functions: the text around them, by family."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Format:
    """Calls are `opening` {"name": …, `key`: {…}} `between` {…} `closing`, each in pieces.

    A piece that a tokenizer has as a token is that token. Without an opening, an answer that begins as a call
    does is one; without something between, one call is all.
    """

    key: str
    opening: tuple[str, ...] = ()
    between: tuple[str, ...] = ()
    closing: tuple[str, ...] = ()
    id_length: int = 24

    @property
    def marker(self) -> str:
        """What tells calls from text."""
        return self.opening[0] if self.opening else ""

    def call(self, name: str, arguments: Any) -> str:
        """One call, whole."""
        spelled = json.dumps({"name": name, self.key: arguments}, ensure_ascii=False)
        return "".join((*self.opening, spelled, *self.closing))


HERMES = Format(
    key="arguments",
    opening=("<tool_call>", "\n"),
    between=("\n", "</tool_call>", "\n", "<tool_call>", "\n"),
    closing=("\n", "</tool_call>"),
)
MISTRAL = Format(
    key="arguments",
    opening=("[TOOL_CALLS]", "["),
    between=(", ",),
    closing=("]",),
    id_length=9,  # its templates refuse others
)
LLAMA = Format(key="parameters")


def format_of(template: str) -> Format:
    """What the source of a chat template teaches; where it says nothing, Hermes' form."""
    for form in (HERMES, MISTRAL):
        if form.marker in template:
            return form
    return LLAMA if '"parameters"' in template else HERMES
