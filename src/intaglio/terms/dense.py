"""Dense: every element coded in one format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from intaglio.formats import Format
from intaglio.formats.arrays import Stored
from intaglio.types import State

if TYPE_CHECKING:
    from intaglio.types import Tensor


class Dense(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="dense"):
    """W (out, in) -> the format's arrays."""

    format: Format

    def decode(self, state: State, shape: tuple[int, int]) -> Tensor:
        """float32 (out, in)."""
        return self.format.decode(*self.format.unpack(state, shape))

    def arrays(self, shape: tuple[int, int]) -> dict[str, Stored]:
        """Type and shape of everything stored for a matrix of this shape."""
        return self.format.arrays(shape)

    def nbits(self, shape: tuple[int, int]) -> int:
        """All stored bits."""
        return self.format.nbits(shape)

    def faults(self, state: State) -> str | None:
        """What is wrong with the values of arrays whose types and shapes are right, or None."""
        return self.format.faults(state)
