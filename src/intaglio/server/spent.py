"""What a request for text took: tokens and seconds, for its log line and its span."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from intaglio.server.answering import Answering


class Spent(NamedTuple):
    """Of all its answers together; a prompt counts once, as in the usage that the client is told.

    `queued`, `first_token`: seconds from the arrival of the first that got there; None: none did.
    """

    model: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    queued: float | None
    first_token: float | None
    finish_reasons: tuple[str, ...]  # each once

    @classmethod
    def of(cls, answering: Answering) -> Spent:
        """To be asked when the request is over."""
        each, prompts = answering.generations, answering.generations[:: answering.choices]
        reasons = dict.fromkeys(one.request.finish_reason or "abort" for one in each)
        return cls(
            answering.served.name,
            sum(one.prompt_tokens for one in prompts),
            sum(one.cached_tokens for one in prompts),
            sum(one.output_tokens for one in each),
            min((one.begun - one.arrived for one in each if one.begun is not None), default=None),
            min((one.first - one.arrived for one in each if one.first is not None), default=None),
            tuple(reasons),
        )
