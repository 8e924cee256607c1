"""Sparse: what pruning leaves of a matrix, anywhere in it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from intaglio.formats import Csr
from intaglio.terms.factor import Factor, Product


class Sparse(
    Product, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="sparse"
):
    """About `share` of the elements, in compressed rows: 32 bits each; half of them as large as float16."""

    share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5

    @property
    def layout(self) -> Csr:
        """How it is stored."""
        return Csr()

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, ...]:
        """The whole matrix, with many elements that are zero."""
        return (Factor("", shape, self.layout),)
