"""GroupSparse: groups of neighbouring weights, each kept whole, in its own scale, or dropped whole."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from intaglio.formats.bsr import Bsr
from intaglio.terms.factor import Factor, Product


class GroupSparse(
    Product, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="group_sparse"
):
    """`sparsity` of the groups of `group_size` weights of a row are zero; the group is also the one that
    shares a scale and a zero point (GQSA, 2412.17560). 16 bits: kept groups are plain float16.
    """

    sparsity: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.5
    bits: Literal[2, 3, 4, 8, 16] = 4
    group_size: Annotated[int, msgspec.Meta(ge=1, le=1 << 12)] = 16

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, ...]:
        """The whole matrix, most of its groups of zeros not stored."""
        return (Factor("", shape, Bsr(self.bits, self.group_size)),)
