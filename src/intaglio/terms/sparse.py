"""Sparse: what pruning leaves of a matrix, anywhere in it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from intaglio.formats import Bitmask, Csr
from intaglio.terms.factor import Factor, Product


class Sparse(
    Product, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="sparse"
):
    """About `share` of the elements in float16 and a bit for every element, or, if few, compressed rows."""

    share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5

    @property
    def layout(self) -> Bitmask | Csr:
        """How it is stored: whichever takes less."""
        return Bitmask() if self.share > 1 / 16 else Csr()

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, ...]:
        """The whole matrix, with many elements that are zero."""
        return (Factor("", shape, self.layout),)
