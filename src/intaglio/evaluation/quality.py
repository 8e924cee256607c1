"""Quality: how well a model predicts a text, and how far it is from its original."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from intaglio.engine import score
from intaglio.errors import IntaglioError
from intaglio.types import Array

Logits = Callable[[Array], Array]  # tokens (n,) -> (n, vocab) float32
Progress = Callable[[], None]


class Comparison(NamedTuple):
    """Of a model beside its original, over all scored tokens."""

    perplexities: tuple[float, float]  # the model's, the original's
    kl_mean: float
    kl_max: float
    top1_agreement: float


def perplexity(logits: Logits, windows: Sequence[Array], name: str, progress: Progress) -> float:
    """exp of the mean negative log-likelihood; each window is scored on all its tokens but the first."""
    losses = []
    for window in windows:
        losses.append(_losses(logits(window), window, name))
        progress()
    return _perplexity(losses)


def compare(
    logits: tuple[Logits, Logits], windows: Sequence[Array], names: tuple[str, str], progress: Progress
) -> Comparison:
    """A model and its original over the same windows; the logits of one window at a time are held."""
    losses: tuple[list[Array], list[Array]] = ([], [])
    divergence, agreement = [], []
    for window in windows:
        ours, theirs = logits[0](window), logits[1](window)
        losses[0].append(_losses(ours, window, names[0]))
        losses[1].append(_losses(theirs, window, names[1]))
        divergence.append(score.kl(theirs[:-1], ours[:-1]))
        agreement.append(score.top1(theirs[:-1], ours[:-1]))
        progress()
    kl = np.concatenate(divergence)
    both = _perplexity(losses[0]), _perplexity(losses[1])
    return Comparison(both, float(kl.mean()), float(kl.max()), float(np.concatenate(agreement).mean()))


def _losses(logits: Array, window: Array, name: str) -> Array:
    losses = score.nll(logits[:-1], window[1:])
    if not np.isfinite(losses).all():
        raise IntaglioError(
            f"{name} gives logits that are not finite: the model is broken, it cannot be measured"
        )
    return losses


def _perplexity(losses: Sequence[Array]) -> float:
    return float(np.exp(np.concatenate(losses).mean()))
