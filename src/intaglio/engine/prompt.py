"""Prompts: a text or its tokens, one or several, and which can be worked on at all."""

from __future__ import annotations

from collections.abc import Sequence

from intaglio.errors import UsageError

Prompt = str | Sequence[int]


def listed(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """One prompt or several -> several."""
    if isinstance(prompts, str) or (len(prompts) and isinstance(prompts[0], int)):
        return [prompts]  # type: ignore[list-item]
    return list(prompts)  # type: ignore[arg-type]


def check_prompt(tokens: Sequence[int], vocab: int, context: int, answer: int = 0) -> None:
    """Refuse what has no token, one outside the vocabulary, or no room in the context for so many more."""
    if not tokens:
        raise UsageError("the prompt is empty: it must have at least one token")
    if len(tokens) + answer > context:
        raise UsageError(
            f"the prompt has {len(tokens)} tokens, the context {context}:"
            " shorten it, or open the model with a larger max_context"
        )
    if outside := [token for token in tokens if not 0 <= token < vocab]:
        raise UsageError(f"token {outside[0]} of the prompt is outside the vocabulary of {vocab}")
