"""Bsr: rows of blocks 1 x group_size, some of them kept and coded, the others zero."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import numpy as np

from intaglio.formats.arrays import Stored
from intaglio.formats.pack import pack, packed_width, unpack
from intaglio.types import Array, State


class Bsr(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="bsr"):
    """w[n, g] = (codes - zero) * scale where block g of row n is kept, or its values (16 bits); else 0.

    kept uint8 (out, ceil(blocks / 8)), a bit a block | of the kept ones, row after row:
    codes packed (kept, ...) | scale float16 (kept,) | zero packed, or: value float16 (kept, group_size)
    bits/weight = share kept * (bits + (16 + bits) / group_size) + 1 / group_size
    """

    bits: Literal[2, 3, 4, 8, 16] = 4
    group_size: Annotated[int, msgspec.Meta(ge=1, le=1 << 12)] = 16

    def blocks(self, cols: int) -> int:
        """Blocks in a row; the last may reach past its end."""
        return -(-cols // self.group_size)

    def arrays(self, shape: tuple[int, int]) -> dict[str, Stored]:
        """Type and shape of everything stored for a matrix of this shape; None: as many as there are."""
        byte, half = np.dtype(np.uint8), np.dtype(np.float16)
        kept = {"kept": Stored(byte, (shape[0], packed_width(self.blocks(shape[1]), 1)))}
        if self.bits == 16:
            return kept | {"value": Stored(half, (None, self.group_size))}
        codes = Stored(byte, (None, packed_width(self.group_size, self.bits)))
        return kept | {"codes": codes, "scale": Stored(half, (None,)), "zero": Stored(byte, (None,))}

    def faults(self, state: State, shape: tuple[int, int]) -> str | None:
        """What is wrong with the values of arrays whose types and shapes are right, or None."""
        ends = unpack(state["kept"], 1, 8 * state["kept"].shape[1])[:, self.blocks(shape[1]) :]
        if ends.any():
            return f"a block beyond the {self.blocks(shape[1])} of a row is kept"
        count = int(self.kept(state, shape).sum())
        if self.bits == 16:
            if len(state["value"]) != count:
                return f"values of {len(state['value'])} blocks for {count} kept ones"
            return None if np.isfinite(state["value"]).all() else "values are not finite"
        found = (len(state["codes"]), len(state["scale"]), len(state["zero"]))
        if found != (count, count, packed_width(count, self.bits)):
            return f"codes, scales and packed zeros of {found} for {count} kept blocks"
        sound = np.isfinite(state["scale"]).all() and (state["scale"] >= 0).all()
        return None if sound else "scale has negative or non-finite values"

    def kept(self, state: State, shape: tuple[int, int]) -> Array:
        """Which blocks are, bool (out, blocks)."""
        return unpack(state["kept"], 1, self.blocks(shape[1])).astype(bool)

    def values(self, state: State, shape: tuple[int, int]) -> Array:
        """float32 (out, in)."""
        kept = self.kept(state, shape)
        w = np.zeros((*kept.shape, self.group_size), np.float32)
        if self.bits == 16:
            w[kept] = state["value"]
        else:
            codes, scale, zero = self.codes(state)
            w[kept] = (codes.astype(np.float32) - zero[:, None]) * scale.astype(np.float32)[:, None]
        return np.ascontiguousarray(w.reshape(shape[0], -1)[:, : shape[1]])

    def codes(self, state: State) -> tuple[Array, Array, Array]:
        """Of the kept blocks: codes uint8 (kept, group_size), scale float16 and zero uint8 (kept,)."""
        zero = unpack(state["zero"][None], self.bits, len(state["scale"]))[0]
        return unpack(state["codes"], self.bits, self.group_size), state["scale"], zero

    def store(self, kept: Array, codes: Array, scale: Array, zero: Array) -> State:
        """What is stored of codes uint8 (out, in), scale float16 and zero uint8 (out, blocks), where kept."""
        blocks = _blocks(codes, self.group_size)[kept]
        return {
            "kept": pack(kept.astype(np.uint8), 1),
            "codes": pack(np.ascontiguousarray(blocks), self.bits),
            "scale": scale[kept],
            "zero": pack(zero[kept][None], self.bits)[0],
        }

    def store_values(self, kept: Array, w: Array) -> State:
        """What is stored of w (out, in) in float16, where kept."""
        return {
            "kept": pack(kept.astype(np.uint8), 1),
            "value": _blocks(w, self.group_size)[kept].astype(np.float16),
        }


def _blocks(a: Array, size: int) -> Array:
    """(out, in) -> (out, blocks, size), the short last one filled with zeros."""
    blocks = -(-a.shape[1] // size)
    return np.pad(a, ((0, 0), (0, blocks * size - a.shape[1]))).reshape(len(a), blocks, size)
