"""DenseSparse: a small basis for each block of columns, of which every row uses a few vectors."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from intaglio.formats import BlockDiagonal, SparseRows
from intaglio.terms.factor import Factor, Product

Size = Annotated[int, msgspec.Meta(ge=1, le=4096)]


class DenseSparse(
    Product, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="dense_sparse"
):
    """Each `width` columns of W (out, in) ~ codes (out, basis) bases (basis, width), the codes sparse.

    DSFormer, 2312.13211. Every row uses the same number of vectors of a block: the most for which all that is
    stored, float16 bases, codes of `bits` and their places, is below 1 - `compression` of 16 bits a weight,
    but at least one.
    """

    compression: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    width: Size = 64
    basis: Size = 64
    bits: Literal[14, 16] = 16

    def codes(self, shape: tuple[int, int]) -> SparseRows:
        """How the codes are stored."""
        basis, blocks = min(self.basis, shape[0]), self._bases().blocks(shape[1])
        left = 16 * shape[1] * (1 - self.compression - basis / shape[0])  # bits for a row's codes
        choices = [SparseRows(n, basis, self.bits) for n in range(1, basis + 1)]
        fits = [one for one in choices if _row_bits(one, blocks * basis) <= left]
        return fits[-1] if fits else choices[0]

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, ...]:
        """The bases, which read the input, and the codes."""
        inner = min(self.basis, shape[0]) * self._bases().blocks(shape[1])
        return (
            Factor("bases", (inner, shape[1]), self._bases()),
            Factor("codes", (shape[0], inner), self.codes(shape)),
        )

    def _bases(self) -> BlockDiagonal:
        return BlockDiagonal(self.width)


def _row_bits(layout: SparseRows, cols: int) -> int:
    blocks, _, nonzeros = layout.sizes(cols)
    return blocks * nonzeros * layout.bits + min(layout.support_bits(cols))
