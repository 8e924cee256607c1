"""Masks: which tokens may come next, uint32 words of which bit i of word i // 32 allows token i.

This is what llguidance's `allocate_token_bitmask` and `fill_next_token_bitmask` make, one row of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import numpy as np

from intaglio.types import Array

# The tokens generated so far -> the mask of the next, or None for all. It must be a function of its argument
# alone: it is asked about drafts too, which may turn out wrong, and again after a preemption.
TokenMask: TypeAlias = Callable[[Sequence[int]], Array | None]


def words_of(vocab: int) -> int:
    """Words of a mask over `vocab` tokens."""
    return -(-vocab // 32)


def everything(vocab: int) -> Array:
    """The mask that allows all of `vocab` tokens: uint32 (words,)."""
    mask = np.full(words_of(vocab), 0xFFFFFFFF, np.uint32)
    if vocab % 32:
        mask[-1] = (1 << vocab % 32) - 1
    return mask


def without(mask: Array, tokens: Iterable[int]) -> Array:
    """A copy that forbids `tokens`; those outside the mask were never allowed."""
    out = mask.copy()
    for token in tokens:
        if 0 <= token < 32 * len(out):
            out[token // 32] &= ~np.uint32(1 << token % 32)
    return out


def allows(mask: Array, token: int) -> bool:
    return bool(mask[token // 32] >> np.uint32(token % 32) & 1)
