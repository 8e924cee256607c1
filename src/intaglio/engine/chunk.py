"""A chunk: what one sequence adds to a step, and how chunks are laid out for the native core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.engine.mask import words_of
from intaglio.engine.sampling import GREEDY, Sampling
from intaglio.errors import UsageError
from intaglio.types import Array


@dataclass(frozen=True)
class Chunk:
    """Tokens of one sequence that enter in one step, at positions [position, position + len(tokens)).

    `pages` is the sequence's whole block table: page j holds positions [64 j, 64 (j + 1)). `draws`: draw the
    token that follows each of so many last tokens; all but the first draw check a draft. `history`, which
    penalties count, are all tokens up to the chunk's last, the first `prompt` of them not generated; a draw
    never sees what comes after its token. `masks` uint32 (draws, words): bit i of word i // 32 allows token
    i. `logprobs`: so many likeliest tokens with their log probabilities are wanted beside the drawn one's;
    None: not even that.
    """

    tokens: Sequence[int] | Array
    position: int
    pages: Sequence[int]
    draws: int = 0
    params: Sampling = GREEDY
    history: Sequence[int] | Array = ()
    prompt: int = 0
    masks: Array | None = None
    logprobs: int | None = None

    def accept(self, drawn: Sequence[int] | Array) -> list[int]:
        """Of the tokens `drawn` (draws,) those up to the first that is not the draft that followed."""
        drafts = self.tokens[len(self.tokens) - self.draws + 1 :] if self.draws > 1 else ()
        right = 0
        while right < len(drafts) and drafts[right] == drawn[right]:
            right += 1
        return [int(token) for token in drawn[: right + 1]]

    def place(self, draw: int) -> int:
        """The position of the token that this draw follows."""
        return self.position + len(self.tokens) - self.draws + draw


def flatten(batch: Sequence[Chunk], vocab: int) -> tuple[Array, ...]:
    """tokens, table, pages, history, biases, masks, settings, seeds: a Request of native/request.h."""
    if not batch:
        raise UsageError("a step needs at least one chunk")
    histories = [c.history if c.draws and c.params.penalises else () for c in batch]
    biases = [c.params.logit_bias if c.draws else {} for c in batch]
    masks = [_masks(c, words_of(vocab)) for c in batch]
    return (
        _joined([c.tokens for c in batch]),
        np.array([_row(*each) for each in zip(batch, histories, biases, masks, strict=True)], np.int32),
        _joined([c.pages for c in batch]),
        _joined(histories),
        _joined([list(bias) for bias in biases]),
        np.array([value for bias in biases for value in bias.values()], np.float32),
        np.concatenate(masks),
        np.array([_settings(c.params) for c in batch], np.float32),
        np.array([c.params.seed for c in batch], np.uint64),
    )


def _row(
    c: Chunk, history: Sequence[int] | Array, bias: Mapping[int, float], masks: Array
) -> tuple[int, ...]:
    """The columns of Request's table."""
    return (
        len(c.tokens),
        c.position,
        len(c.pages),
        c.draws,
        c.params.top_k,
        len(history),
        c.prompt if len(history) else 0,
        len(bias),
        len(masks),
        -1 if c.logprobs is None else c.logprobs,
    )


def _settings(p: Sampling) -> tuple[float, ...]:
    return (
        p.temperature,
        p.top_p,
        p.min_p,
        p.repetition_penalty,
        p.presence_penalty,
        p.frequency_penalty,
    )


def _masks(chunk: Chunk, words: int) -> Array:
    if chunk.masks is None or not chunk.draws:
        return np.empty((0, words), np.uint32)
    masks = np.asarray(chunk.masks)
    if masks.dtype.itemsize != 4 or masks.dtype.kind not in "iu" or masks.shape != (chunk.draws, words):
        raise UsageError(
            f"masks must be 32-bit words of shape ({chunk.draws}, {words}), got {masks.dtype} {masks.shape}"
        )
    return masks.view(np.uint32)  # llguidance's are int32


def _joined(parts: Sequence[Sequence[int] | Array]) -> Array:
    return np.concatenate([np.asarray(part, np.int32) for part in parts])
