"""Dictionary: few atoms shared by all rows, and of each row which of them it is made of."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from intaglio.formats import Floating, SparseRows
from intaglio.terms.factor import Factor, Product


class Dictionary(
    Product, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="dictionary"
):
    """W (out, in) ~ codes (out, k) atoms (k, in), with exactly s = k / rho codes of a row that are not zero.

    Every row spans a subspace of its own, where a low rank gives all the same (CoSpaDi, 2509.22075). k is the
    largest for which float16 atoms, codes of `bits` and a mask take 1 - `compression` of 16 bits a weight;
    with 14 bits and rho = 2 the mask takes just what the two bits less leave.
    `rows`: of all matrices that share the atoms, for which together k is then the largest; None: out.
    """

    compression: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.2
    rho: Annotated[float, msgspec.Meta(ge=1, le=64)] = 2.0
    bits: Literal[14, 16] = 14
    rows: Annotated[int, msgspec.Meta(ge=1, le=1 << 24)] | None = None

    def sizes(self, shape: tuple[int, int]) -> tuple[int, int]:
        """How many atoms there are, and how many of them a row uses."""
        out, cols = self.rows or shape[0], shape[1]
        words = (1 - self.compression) * out * cols
        atoms = max(1, int(words / (cols + out * (self.bits / self.rho + 1) / 16)))
        return atoms, max(1, int(atoms / self.rho))

    def codes(self, shape: tuple[int, int]) -> SparseRows:
        """How the codes are stored."""
        return SparseRows(self.sizes(shape)[1], bits=self.bits)

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, ...]:
        """The atoms, which read the input, and the codes."""
        atoms, _ = self.sizes(shape)
        return (
            Factor("atoms", (atoms, shape[1]), Floating("float16")),
            Factor("codes", (shape[0], atoms), self.codes(shape)),
        )
