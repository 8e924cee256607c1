"""Products with matrices behind a bitmask, on every instruction set of this machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio import _native
from intaglio.formats import Bitmask, Csr
from intaglio.kernels import cpu
from intaglio.types import Array
from tests.kernels.matrices import multiplies

ISAS = _native.isas()


def operand(rows: int, cols: int, share: float, seed: int = 0) -> cpu.Operand:
    """Each element is there with a chance of `share`."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((rows, cols)).astype(np.float16) * (rng.random((rows, cols)) < share)
    return cpu.Operand(w.shape, Bitmask(), Bitmask().store(w.astype(np.float32)))


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 70),
    cols=st.integers(1, 90),
    share=st.sampled_from([0.0, 0.02, 0.5, 0.97, 1.0]),
    seed=st.integers(0, 9),
)
def test_any_share_of_any_matrix(isa: str, rows: int, cols: int, share: float, seed: int) -> None:
    multiplies(operand(rows, cols, share, seed), isa, tokens=3)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("rows", "cols", "tokens"), [(576, 1031, 9), (70, 520, 260)])
def test_many_tiles_panels_and_tokens(isa: str, rows: int, cols: int, tokens: int) -> None:
    """A place in a tile is kept from panel to panel, for more tiles and tokens than are taken at once."""
    multiplies(operand(rows, cols, 0.5), isa, tokens=tokens)


@pytest.mark.parametrize("isa", ISAS)
def test_one_full_row_among_empty_ones(isa: str) -> None:
    w = np.zeros((40, 577), np.float32)
    w[23] = 1 + np.arange(577)
    multiplies(cpu.Operand(w.shape, Bitmask(), Bitmask().store(w)), isa)


@pytest.mark.parametrize("isa", [isa for isa in ISAS if isa != "scalar"])
def test_it_is_as_small_in_memory_as_in_a_file(isa: str) -> None:
    m = operand(576, 1536, 0.5)
    stored = sum(array.nbytes for array in m.state.values())
    assert cpu.pack([m], cpu.choose(m), isa=isa).nbytes <= 1.01 * stored


def test_compressed_rows_that_are_rather_full_get_one() -> None:
    w = cpu.decode(operand(40, 96, 0.5))
    m = cpu.Operand(w.shape, Csr(), Csr().store(w))
    assert cpu.choose(m).kernel == "bitmask"
    for isa in ISAS:
        multiplies(m, isa)


@pytest.mark.parametrize(
    ("mask", "values", "says"),
    [
        ([0x41, 3, 0], 3, "a bit for each element of a row"),
        ([0x41, 3], 3, "mask of 4 bits needs as many values, got 3"),
        ([0x41, 0x83], 5, "a bit behind its last column"),
    ],
)
def test_wrong_arrays_are_refused(mask: list[int], values: int, says: str) -> None:
    arrays: list[Array] = [np.array(mask, np.uint8), np.zeros(values, np.float16)]
    with pytest.raises(ValueError, match=says):
        _native.structured(cpu.BITMASK, 2, 7, 0, arrays)
    state = {"mask": np.array([[0x41], [3]], np.uint8), "value": np.zeros(4, np.float16)}
    assert Bitmask().faults(state, (2, 7)) is None
    if len(mask) == 2:
        broken = {"mask": np.array(mask, np.uint8)[:, None], "value": arrays[1]}
        assert "the mask has" in str(Bitmask().faults(broken, (2, 7)))
