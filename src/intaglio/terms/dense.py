"""Dense: every element coded in one format."""

from __future__ import annotations

import msgspec

from intaglio.formats import Format
from intaglio.terms.factor import Factor, Product


class Dense(Product, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="dense"):
    """W (out, in) -> the format's arrays."""

    format: Format

    def factors(self, shape: tuple[int, int]) -> tuple[Factor, ...]:
        """The whole matrix."""
        return (Factor("", shape, self.format),)
