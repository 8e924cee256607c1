"""Sampling: how the next token is drawn from a row of logits. The drawing itself is native/sampler.cpp."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec

MOST_LOGPROBS = 20  # kMostLogprobs of native/sampler.h

Token = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
Bias = Annotated[float, msgspec.Meta(ge=-100, le=100)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Mask, bias, penalties, then temperature (0: the largest), top-k, top-p, min-p, in this order.

    The draw depends on these, the logits, the position and the tokens before it alone: the same request gives
    the same tokens whatever shares its batch, and however many of them are drawn in one step.
    """

    temperature: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    top_k: Annotated[int, msgspec.Meta(ge=0)] = 0  # 0: all; ties at the border go to the lower token id
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    min_p: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, msgspec.Meta(gt=0, le=1e6)] = 1.0  # on prompt and answer
    presence_penalty: Penalty = 0.0  # these two on the answer only
    frequency_penalty: Penalty = 0.0
    logit_bias: dict[Token, Bias] = {}
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0

    @property
    def penalises(self) -> bool:
        """Whether a draw depends on the tokens before it."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0


GREEDY = Sampling()


class Logprobs(NamedTuple):
    """log softmax of the logits before mask, bias, penalties and temperature, in nats.

    `logprob` and `rank` (from 1) of the drawn token; `tokens` (n,) and `logprobs` (n,) of the likeliest, best
    first, with -1 and -inf where the model allows fewer.
    """

    logprob: float
    rank: int
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
