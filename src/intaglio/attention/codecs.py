"""How keys and values are remembered: per token and head, 4 or 8 bits with scale and zero point, or float16.

The torch definition of what native/kernels.h writes into pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from intaglio.lazy import lazy

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

# The smallest step as a share of max|x|, keeping the zero point -min/step a finite float16 (at most 2^15),
# and the smallest at all: float16's smallest number
_NARROWEST, _SMALLEST = 2.0**-15, 2.0**-24


class Affine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="int"):
    """x (..., head_dim) = scale * code - scale * zero; code uint8 like x, scale and zero float16 (..., 1).

    The zero point is not rounded to an integer: values that share a sign lose no range.
    bits/value = bits + 32 / head_dim
    """

    bits: Literal[4, 8] = 4

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Code, scale and zero of each vector. A vector with a non-finite value decodes to NaN."""
        x, highest = x.float(), (1 << self.bits) - 1
        lo, hi = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
        narrowest = torch.maximum(-lo, hi) * _NARROWEST  # max|x|, always >= 0
        scale = torch.maximum((hi - lo) / highest, narrowest).clamp(min=_SMALLEST).half()
        zero = (-lo / scale.float()).half()
        code = (x / scale.float() + zero.float()).round().clamp(0, highest)
        return {"code": code.nan_to_num(0).to(torch.uint8), "scale": scale, "zero": zero}

    def decode(self, state: dict[str, Tensor]) -> Tensor:
        """Vectors, float32 (..., head_dim)."""
        scale, zero = state["scale"].float(), state["zero"].float()
        return scale * state["code"].float() - scale * zero

    def roundtrip(self, x: Tensor) -> Tensor:
        """What will be read back of x, float32."""
        return self.decode(self.encode(x))

    def nbits(self, head_dim: int) -> int:
        """Stored bits of one vector."""
        return self.bits * head_dim + 32


class Half(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="float"):
    """x (..., head_dim) -> value float16 (..., head_dim). bits/value = 16"""

    @property
    def bits(self) -> int:
        """Of one value."""
        return 16

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Rounded values."""
        return {"value": x.half()}

    def decode(self, state: dict[str, Tensor]) -> Tensor:
        """Vectors, float32 (..., head_dim)."""
        return state["value"].float()

    def roundtrip(self, x: Tensor) -> Tensor:
        """What will be read back of x, float32."""
        return self.decode(self.encode(x))

    def nbits(self, head_dim: int) -> int:
        """Stored bits of one vector."""
        return 16 * head_dim
