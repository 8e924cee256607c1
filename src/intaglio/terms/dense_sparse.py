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
    but at least one. `per_bin`: a row uses one vector of each bin of so many, so a place costs log2 of that;
    there are as many bins as fit, of `basis` vectors at most. None: a row chooses freely among `basis`.
    """

    compression: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    width: Size = 64
    basis: Size = 64
    bits: Literal[14, 16] = 16
    per_bin: Size | None = None

    def sizes(self, shape: tuple[int, int]) -> tuple[int, int, int]:
        """Vectors of a block's basis, how many of them a row uses, and vectors of a bin, 1 without bins."""
        most = min(self.basis, shape[0])
        per_bin = min(self.per_bin or 1, most)
        counts = range(1, most // per_bin + 1)
        choices = [(most if self.per_bin is None else n * per_bin, n, per_bin) for n in counts]
        fits = [sizes for sizes in choices if self._fits(shape, sizes)]
        return fits[-1] if fits else choices[0]

    def codes(self, shape: tuple[int, int]) -> SparseRows:
        """How the codes are stored."""
        return self._layout(self.sizes(shape))

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, ...]:
        """The bases, which read the input, and the codes."""
        inner = self.sizes(shape)[0] * self._bases().blocks(shape[1])
        return (
            Factor("bases", (inner, shape[1]), self._bases()),
            Factor("codes", (shape[0], inner), self.codes(shape)),
        )

    def _bases(self) -> BlockDiagonal:
        return BlockDiagonal(self.width)

    def _layout(self, sizes: tuple[int, int, int]) -> SparseRows:
        basis, nonzeros, per_bin = sizes
        if self.per_bin is None:
            return SparseRows(nonzeros, basis, self.bits)
        return SparseRows(1, per_bin, self.bits)

    def _fits(self, shape: tuple[int, int], sizes: tuple[int, int, int]) -> bool:
        (rows, cols), (basis, nonzeros, _) = shape, sizes
        blocks = self._bases().blocks(cols)
        places = min(self._layout(sizes).support_bits(blocks * basis))
        left = 16 * cols * (1 - self.compression - basis / rows)  # bits for a row's codes
        return blocks * nonzeros * self.bits + places <= left
