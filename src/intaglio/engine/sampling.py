"""Sampling: how the next token is drawn from a row of logits. The drawing itself is native/sampler.cpp."""

from __future__ import annotations

from typing import Annotated

import msgspec


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Penalty, then temperature, top-k, top-p, min-p, in this order; temperature 0 takes the largest logit.

    The draw depends on `seed` and the position of the token alone: the same request gives the same tokens
    whatever shares its batch.
    """

    temperature: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    top_k: Annotated[int, msgspec.Meta(ge=0)] = 0  # 0: all; ties at the border go to the lower token id
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    min_p: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0


GREEDY = Sampling()
