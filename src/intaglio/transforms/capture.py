"""What the linears of one block read, on a bounded number of tokens, kept in whole sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from intaglio.models import transformer
from intaglio.models.roles import INPUTS
from intaglio.models.spec import ModelSpec

if TYPE_CHECKING:
    from intaglio.models.transformer import Weights
    from intaglio.types import Tensor


def capture(
    spec: ModelSpec, index: int, w: Weights, batches: Sequence[Tensor], tokens: int
) -> dict[str, list[Tensor]]:
    """Inputs at every point of `INPUTS`, lists of (batch, t, in): see `spaced` for which tokens."""
    found: dict[str, list[Tensor]] = {point: [] for point in INPUTS}

    def keep(point: str, x: Tensor) -> Tensor:
        if point in found:
            found[point].append(x)
        return x

    for x in spaced(batches, tokens):
        transformer.block(spec, index, w, x, tap=keep)
    return found


def spaced(batches: Sequence[Tensor], tokens: int) -> Iterator[Tensor]:
    """At most `tokens` of (batch, t, hidden) batches: sequences spaced evenly over all, a long one cut."""
    shapes = [x.shape for x in batches]  # in one pass: each may be read from disk
    total = sum(batch for batch, *_ in shapes)
    count = min(max(1, tokens // max(length for _, length, _ in shapes)), total)
    wanted = [i * total // count for i in range(count)]
    seen = 0
    for x in batches:
        here = [i - seen for i in wanted if seen <= i < seen + len(x)]
        seen += len(x)
        if here:
            yield x[here, :tokens]
