"""LowRank: a product of two thin matrices."""

from __future__ import annotations

from typing import Annotated

import msgspec

from intaglio.formats import Floating, Format
from intaglio.terms.factor import Factor, Product


class LowRank(
    Product, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="low_rank"
):
    """W (out, in) ~ left (out, rank) right (rank, in), both in `format`; no rank beyond the matrix's own."""

    rank: Annotated[int, msgspec.Meta(ge=1, le=1 << 14)]
    format: Format = Floating("float16")

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, ...]:
        """What reads the input, and what makes the output of that."""
        rank = min(self.rank, *shape)
        return Factor("right", (rank, shape[1]), self.format), Factor("left", (shape[0], rank), self.format)
