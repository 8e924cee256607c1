"""Floating: plain numbers, for what is left as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from intaglio.errors import IntaglioError
from intaglio.formats.arrays import BFLOAT16, Stored, to_numpy, to_torch
from intaglio.lazy import lazy
from intaglio.types import State

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

_NUMPY: dict[str, np.dtype[np.generic]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": BFLOAT16,
}


class Floating(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="float"):
    """w = value, in `dtype`. No tables; the codes are the values themselves. bits/weight = 16 or 32."""

    dtype: Literal["float32", "float16", "bfloat16"] = "float16"

    def fit(self, w: Tensor, *, shrink: Tensor | None = None) -> dict[str, Tensor]:
        """Nothing to learn."""
        return {}

    def encode(self, w: Tensor, tables: dict[str, Tensor]) -> Tensor:
        """Values in `dtype`, (out, in)."""
        values = w.to(getattr(torch, self.dtype), copy=True)  # never a view of the caller's weights
        if self.dtype == "float16" and bool((values.isinf() & w.isfinite()).any()):
            raise IntaglioError(
                f"a weight of {float(w.abs().max()):.3g} does not fit float16: bfloat16 and float32 hold it"
            )
        return values

    def decode(self, codes: Tensor, tables: dict[str, Tensor]) -> Tensor:
        """Values, float32 (out, in)."""
        return codes.float()

    def pack(self, codes: Tensor, tables: dict[str, Tensor]) -> State:
        """What is stored, as numpy arrays."""
        return {"value": to_numpy(codes)}

    def unpack(self, state: State, shape: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Values in `dtype`, and no tables."""
        return to_torch(state["value"]), {}

    def arrays(self, shape: tuple[int, int]) -> dict[str, Stored]:
        """Type and shape of everything stored for a matrix of this shape."""
        return {"value": Stored(_NUMPY[self.dtype], shape)}

    def nbits(self, shape: tuple[int, int]) -> int:
        """All stored bits."""
        return self.arrays(shape)["value"].nbits

    def faults(self, state: State) -> str | None:
        """None: any bits are a number, and reading them all would read the whole mapped file."""
        return None
