"""Which layer hurts: the distance from the original when only that one layer is compressed.

A compressed layer may live in another basis: a rotation Q of the residual stream is part of its weights. Then
`layer_i` alone is

    h -> Q^T . compressed_i(Q h)

and Q is found from the embeddings, which the rotation turned too: the orthogonal matrix that best maps the
original's onto the compressed model's. It is right whatever made the rotation, and not needed without one.

One pass: at every layer a variant branches off the original's hidden states, and the original's layers then
move all variants on. Runs in torch, with activations, keys and values rounded as the executor rounds them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from intaglio import attention
from intaglio.engine import score
from intaglio.errors import IntaglioError, UsageError
from intaglio.evaluation.result import LayerResult
from intaglio.lazy import lazy
from intaglio.models import artifact, roles
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.reference import Codec, layer_readings, rounding
from intaglio.models.transformer import Weights, block, embed, head, layer_weights, outer_weights
from intaglio.types import Array

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

WINDOWS = 4  # more would take as long as all other measurements together
TURN = (
    0.05  # how far, relatively, the turned embeddings may be from the compressed model's (which may be coded)
)


def measure(
    candidate: Checkpoint,
    base: Checkpoint,
    windows: Sequence[Array],
    progress: Callable[[str, int, int], None],
) -> list[LayerResult]:
    """One result a layer."""
    if (found := candidate.spec.num_layers) != base.spec.num_layers:
        raise UsageError(
            f"{candidate.name} has {found} layers, {base.name} {base.spec.num_layers}: nothing to exchange"
        )
    with torch.inference_mode():
        tokens = torch.from_numpy(np.stack(windows).astype(np.int64))
        outer = outer_weights(base)
        turn = basis(outer, outer_weights(candidate))
        kv = _codec(candidate)
        x = embed(base.spec, outer, tokens)
        variants: list[Tensor] = []
        for layer in range(base.spec.num_layers):
            branch = _compressed(candidate, layer, x, turn, kv)
            weights = layer_weights(base, layer)
            variants = [block(base.spec, layer, weights, h) for h in variants] + [branch]
            x = block(base.spec, layer, weights, x)
            progress("layers", layer + 1, base.spec.num_layers)
        return [_distance(base, outer, layer, x, h) for layer, h in enumerate(variants)]


def basis(base: Weights, candidate: Weights) -> Tensor | None:
    """Q (hidden, hidden), orthogonal, with E_candidate ~ E_base Q; None where both live in the same basis."""
    ours, theirs = _embedding(candidate), _embedding(base)
    if _apart(theirs, ours) < TURN:
        return None
    left, _, right = torch.linalg.svd(theirs.double().mT @ ours.double())
    turn: Tensor = (left @ right).float()
    if _apart(theirs @ turn, ours) > TURN:
        raise IntaglioError(
            "the compressed embeddings are no rotation of the original's: single layers cannot be exchanged"
        )
    return turn


def _compressed(
    candidate: Checkpoint, layer: int, x: Tensor, turn: Tensor | None, kv: Codec | None
) -> Tensor:
    """The candidate's layer applied to the original's hidden states."""
    tap = rounding(layer_readings(candidate, layer), kv)
    weights = layer_weights(candidate, layer)
    if turn is None:
        return block(candidate.spec, layer, weights, x, tap=tap)
    return block(candidate.spec, layer, weights, x @ turn, tap=tap) @ turn.mT


def _distance(base: Checkpoint, outer: Weights, layer: int, x: Tensor, variant: Tensor) -> LayerResult:
    """Window by window, so that the logits of two windows at most are held."""
    divergence = []
    for original, changed in zip(x[:, :-1], variant[:, :-1], strict=True):
        p, q = (head(base.spec, outer, h[None])[0].numpy() for h in (original, changed))
        divergence.append(score.kl(p, q))
    kl = np.concatenate(divergence)
    return LayerResult(layer, float(kl.mean()), float(kl.max()))


def _embedding(w: Weights) -> Tensor:
    """What `embed` looks up, with the projection a rotation may have put behind it: (vocab, hidden)."""
    table = w[f"{roles.EMBEDDING}.weight"]
    projection = w.get(f"{roles.EMBED_PROJ}.weight")
    return table if projection is None else table @ projection.mT


def _apart(a: Tensor, b: Tensor) -> float:
    """|a - b| / |b|, Frobenius."""
    return float((a - b).norm() / b.norm())


def _codec(candidate: Checkpoint) -> Codec | None:
    """How the artifact keeps keys and values."""
    cache = artifact.quantization(candidate.config).get("cache")
    if not cache:
        return None
    try:
        codec: Codec = msgspec.convert(cache, attention.Codec)
    except msgspec.ValidationError as error:
        raise IntaglioError(f"{candidate.name}: quantization_config.cache: {error}") from None
    return codec
