"""Codebook: a few free values a row, and which of them each element is."""

from __future__ import annotations

from typing import Annotated

import msgspec

from intaglio.formats import Lookup
from intaglio.terms.factor import Factor, Product


class Codebook(
    Product, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="codebook"
):
    """W (out, in) -> codes of `bits` into a table of 2^bits float16 a row (SqueezeLLM, 2306.07629)."""

    bits: Annotated[int, msgspec.Meta(ge=2, le=4)] = 3

    @property
    def layout(self) -> Lookup:
        """How it is stored."""
        return Lookup(self.bits)

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, ...]:
        """The whole matrix."""
        return (Factor("", shape, self.layout),)
