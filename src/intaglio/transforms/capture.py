"""What the linears of one block read, on a bounded number of tokens, kept in whole sequences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from intaglio.models import transformer
from intaglio.models.roles import INPUTS
from intaglio.models.spec import ModelSpec

if TYPE_CHECKING:
    from intaglio.models.transformer import Weights
    from intaglio.types import Tensor


def capture(
    spec: ModelSpec, index: int, w: Weights, batches: Iterable[Tensor], tokens: int
) -> dict[str, list[Tensor]]:
    """Inputs at every point of `INPUTS`, for the first `tokens` tokens: lists of (batch, tokens, in)."""
    found: dict[str, list[Tensor]] = {point: [] for point in INPUTS}

    def keep(point: str, x: Tensor) -> Tensor:
        if point in found:
            found[point].append(x)
        return x

    for x in first(batches, tokens):
        transformer.block(spec, index, w, x, tap=keep)
    return found


def first(batches: Iterable[Tensor], tokens: int) -> Iterator[Tensor]:
    """The first sequences of (batch, t, hidden) batches, `tokens` in all; a last long one is cut."""
    for x in batches:
        sequences = x[: max(1, tokens // x.shape[1]), :tokens]
        yield sequences
        tokens -= sequences.shape[0] * sequences.shape[1]
        if tokens <= 0:
            return
