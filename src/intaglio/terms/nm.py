"""NM: the elements that matter most of every block of neighbouring columns (N:M structured sparsity)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from intaglio import formats
from intaglio.terms.factor import Factor, Product


class NM(Product, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="nm"):
    """At most n of every m inputs, each `value` as it is (float16) or rounded (int8, one scale a row).

    Several in a row are TASD's series (2403.07953): each takes the best view of what those before it left.
    """

    n: Annotated[int, msgspec.Meta(ge=1, le=16)] = 2
    m: Literal[4, 8, 16] = 4
    value: Literal["float16", "int8"] = "float16"

    def __post_init__(self) -> None:
        _ = self.layout  # refuses n > m

    @property
    def layout(self) -> formats.NM:
        """How it is stored."""
        return formats.NM(self.n, self.m, self.value)

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, ...]:
        """The whole matrix, most of it zero."""
        return (Factor("", shape, self.layout),)
