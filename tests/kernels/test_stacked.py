"""Structures one below the other are one matrix, on every instruction set of this machine."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio import _native
from intaglio.formats import NM, Bitmask, Bsr, Csr, Lookup, Structure, Trits
from intaglio.kernels import cpu
from intaglio.types import Array, State

COLS = 80
LAYOUTS: dict[str, Structure] = {
    "csr": Csr(),
    "bitmask": Bitmask(),
    "bsr4": Bsr(4, 16),
    "bsr16": Bsr(16, 16),
    "nm": NM(2, 4),
    "nm-int8": NM(2, 4, "int8"),
    "lookup": Lookup(3),
    "trits": Trits(2, 16),
}


def stored(layout: Structure, rows: int, rng: np.random.Generator) -> State:
    """Something random of this layout."""
    w = rng.standard_normal((rows, COLS)).astype(np.float32)
    share = rng.random(w.shape)
    match layout:
        case Csr() | Bitmask():
            return layout.store(w * (share < (0.1 if isinstance(layout, Csr) else 0.5)))
        case NM():
            return layout.store(w * np.tile([1, 0, 0, 1], COLS // 4))
        case Bsr(bits=bits):
            kept = rng.random((rows, layout.blocks(COLS))) < 0.5
            kept[:, 0] = True
            if bits == 16:
                return layout.store_values(kept, w)
            tables = (1 + share[:, : kept.shape[1]]).astype(np.float16), np.full(kept.shape, 7, np.uint8)
            return layout.store(kept, rng.integers(0, 16, w.shape).astype(np.uint8), *tables)
        case Lookup():
            table = rng.standard_normal((rows, 8)).astype(np.float16)
            return {"codes": rng.integers(0, 256, (rows, COLS * 3 // 8)).astype(np.uint8), "table": table}
        case Trits():
            digits = rng.integers(-1, 2, (2, rows, COLS)).astype(np.int8)
            return layout.store(digits, share[None, :, :5].repeat(2, 0).astype(np.float16))
        case _:
            raise AssertionError(layout)


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize("kernel", LAYOUTS)
def test_structures_are_stacked(kernel: str, isa: str) -> None:
    """The last one of any number of rows; what a row of zeros and one of many elements leave to the next."""
    layout, rng = LAYOUTS[kernel], np.random.default_rng(0)
    parts = [cpu.Operand((rows, COLS), layout, stored(layout, rows, rng)) for rows in (3, 1, 32, 7)]
    choice = cpu.choose(parts[0])
    assert choice.kernel == kernel
    assert all(cpu.stacks(part, choice) for part in parts)
    matrix = cpu.pack(parts, choice, isa=isa)
    w: Array = np.concatenate([cpu.decode(part) for part in parts])
    x = rng.standard_normal((3, COLS)).astype(np.float32)
    y = x.astype(np.float64) @ w.T
    assert np.abs(matrix.linear(x) - y).max() <= 3e-4 * np.abs(y).max()
    for r in (0, 3, 35, 42):
        np.testing.assert_allclose(matrix.row(r), w[r], rtol=1e-3, atol=1e-4)
