"""LowRank: a product of two thin matrices."""

from __future__ import annotations

from typing import Annotated

import msgspec

from intaglio.formats import Floating, Format
from intaglio.terms.factor import Factor, Product


class LowRank(
    Product, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="low_rank"
):
    """W (out, in) ~ left (out, rank) right (rank, in), both in `format`; no rank beyond the matrix's own.

    Without a `rank`, the largest for which the numbers of both are 1 - `compression` of those of W.
    """

    rank: Annotated[int, msgspec.Meta(ge=1, le=1 << 14)] | None = None
    format: Format = Floating("float16")
    compression: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None

    def __post_init__(self) -> None:
        if (self.rank is None) == (self.compression is None):
            raise ValueError("a low rank has either a `rank` or a `compression`")

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, ...]:
        """What reads the input, and what makes the output of that."""
        rank = self.rank_of(shape)
        return Factor("right", (rank, shape[1]), self.format), Factor("left", (shape[0], rank), self.format)

    def rank_of(self, shape: tuple[int, int]) -> int:
        """Of the two factors of a matrix of this shape."""
        return min(self.rank or self._affordable(shape), *shape)

    def _affordable(self, shape: tuple[int, int]) -> int:
        assert self.compression is not None
        return max(1, int((1 - self.compression) * shape[0] * shape[1] / sum(shape)))
