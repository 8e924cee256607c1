"""Outliers: the few elements of a matrix that matter most, in float16, the rest zero."""

from __future__ import annotations

from typing import Annotated

import msgspec

from intaglio.formats import Csr
from intaglio.terms.factor import Factor, Product


class Outliers(
    Product, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="outliers"
):
    """About `share` of the elements, in compressed rows: 32 bits each, and 32 a row."""

    share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.005

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, ...]:
        """The whole matrix, with few elements that are not zero."""
        return (Factor("", shape, Csr()),)
