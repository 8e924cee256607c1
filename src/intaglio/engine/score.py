"""Scores: how well logits predict a text, and how far they are from another model's.

Everything works on blocks of rows, so a window of 512 tokens over a large vocabulary needs a few megabytes
beside the logits themselves; sums are taken in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from intaglio.errors import IntaglioError
from intaglio.types import Array

ROWS = 16  # of logits at a time: 16 x 50,000 float32 stay in the cache


def windows(
    tokens: Sequence[int] | Array, seq_len: int, count: int | None, what: str = "text"
) -> list[Array]:
    """The first `count` (None: all) whole windows of `seq_len` tokens, side by side, none overlapping."""
    if seq_len < 2:
        raise IntaglioError(f"a window of {seq_len} token has nothing to predict: seq_len must be at least 2")
    flat = np.asarray(tokens, np.int32)
    whole = flat.size // seq_len
    if not whole:
        raise IntaglioError(
            f"{what} has {flat.size} tokens, shorter than one window of {seq_len}:"
            " give more text or a smaller --seq-len"
        )
    return list(flat[: whole * seq_len].reshape(whole, seq_len)[:count])


def nll(logits: Array, targets: Array) -> Array:
    """-log softmax(logits)[target]: logits (n, vocab), targets (n,) -> (n,) float64, in nats."""
    out = np.empty(len(logits))
    for rows in _blocks(len(logits)):
        x = logits[rows].astype(np.float32, copy=False)
        picked = x[np.arange(len(x)), targets[rows]].astype(np.float64)
        out[rows] = log_sum_exp(x) - picked
    return out


def kl(base: Array, candidate: Array) -> Array:
    """KL(softmax(base) || softmax(candidate)) of each row: (n, vocab) twice -> (n,) float64, in nats."""
    out = np.empty(len(base))
    for rows in _blocks(len(base)):
        p, q = (x[rows].astype(np.float32, copy=False) for x in (base, candidate))
        difference = np.subtract(p, q)
        weights = np.exp(p - p.max(axis=-1, keepdims=True))  # softmax(p) times its sum
        mean = (weights * difference).sum(-1, dtype=np.float64) / weights.sum(-1, dtype=np.float64)
        out[rows] = mean - (log_sum_exp(p) - log_sum_exp(q))
    return np.maximum(out, 0.0)  # rounding may leave -1e-8; NaN stays


def top1(base: Array, candidate: Array) -> Array:
    """Where both put the same token first: (n, vocab) twice -> (n,) bool."""
    return np.asarray(base.argmax(-1) == candidate.argmax(-1))


def log_sum_exp(x: Array) -> Array:
    """(n, vocab) -> (n,) float64."""
    top = x.max(axis=-1, keepdims=True)
    out: Array = np.log(np.exp(x - top).sum(-1, dtype=np.float64)) + top[:, 0].astype(np.float64)
    return out


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, start + ROWS) for start in range(0, n, ROWS))
