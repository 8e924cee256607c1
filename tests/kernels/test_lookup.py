"""Products with lookup tables on every instruction set of this machine."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio import _native
from intaglio.formats import Lookup
from intaglio.kernels import cpu

ISAS = _native.isas()
LIMIT = 2e-4  # entries are multiplied as integers of 14 bits, to half of 1 / 9740 of a row's largest


def sample(rows: int, cols: int, bits: int) -> cpu.Operand:
    rng, layout = np.random.default_rng(rows + cols), Lookup(bits)
    codes = rng.integers(0, layout.entries, (rows, cols)).astype(np.uint8)
    table = layout.round(rng.standard_normal((rows, layout.entries)).astype(np.float32))
    return cpu.Operand((rows, cols), layout, layout.store(codes, table))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize(  # strips of 32 columns in blocks of 2, 4 and 8: whole, cut short, one past
    ("rows", "cols"),
    [(1, 1), (3, 15), (5, 33), (4, 128), (2, 160), (4, 161), (3, 224), (3, 256), (2, 257), (7, 576)],
)
def test_it_is_the_table_of_the_codes(isa: str, bits: int, rows: int, cols: int) -> None:
    m = sample(rows, cols, bits)
    w, x = cpu.decode(m), np.random.default_rng(0).standard_normal((9, cols)).astype(np.float32)
    assert cpu.choose(m).kernel == "lookup"
    packed = cpu.pack([m], cpu.choose(m), isa=isa)
    assert np.array_equal(np.stack([packed.row(r) for r in range(rows)]), w)
    together, expected = packed.linear(x), x.astype(np.float64) @ w.T
    limit = LIMIT * max(np.abs(expected).max(), np.abs(x).max() * np.abs(m.state["table"]).max())
    assert np.abs(together - expected).max() <= limit
    for count in (1, 2, 3, 5, 8):  # and a token does not depend on its batch
        assert np.array_equal(packed.linear(x[:count]), together[:count])
    bias, onto = np.arange(rows, dtype=np.float32), np.ones((9, rows), np.float32)
    near = onto + 0.5 * (expected + bias)
    found = packed.linear(x, bias=bias, alpha=0.5, onto=onto)
    np.testing.assert_allclose(found, near, atol=limit)


@pytest.mark.parametrize(
    ("bits", "cols", "most"), [(3, 960, 3.2), (3, 4096, 3), (3, 576, 3.11), (4, 1024, 4), (2, 1024, 2)]
)
def test_codes_are_small_in_memory(bits: int, cols: int, most: float) -> None:
    """Three bits are three, but for the end of a row; tables come on top, as float16 and as integers."""
    m = sample(64, cols, bits)
    nbytes = cpu.pack([m], cpu.choose(m)).nbytes - 64 * (2 * 2 * (1 << bits) + 4)
    assert 8 * nbytes / (64 * cols) == pytest.approx(most, abs=0.005)


@pytest.mark.parametrize("isa", ISAS)
def test_entries_of_all_sizes_and_a_token_that_is_not_a_number(isa: str) -> None:
    """A table of zeros, one with a single large entry; NaN and infinity spoil their token and no other."""
    layout, rng = Lookup(3), np.random.default_rng(0)
    table = layout.round(rng.standard_normal((4, 8)).astype(np.float32))
    table[1], table[2, 3] = 0, 30_000
    m = cpu.Operand((4, 70), layout, layout.store(rng.integers(0, 8, (4, 70)).astype(np.uint8), table))
    x = rng.standard_normal((4, 70)).astype(np.float32)
    x[1], x[2, 5], x[3, 69] = 0, np.nan, np.inf
    found, expected = (
        cpu.pack([m], cpu.choose(m), isa=isa).linear(x),
        x[:2].astype(np.float64) @ cpu.decode(m).T,
    )
    for row in range(4):
        assert np.abs(found[:2, row] - expected[:, row]).max() <= LIMIT * np.abs(expected[:, row]).max()
    assert not np.isfinite(found[2:, [0, 2, 3]]).any()


@pytest.mark.parametrize("isa", ISAS)
def test_rows_too_wide_to_be_kept_as_integers(isa: str) -> None:
    m = sample(2, 70_000, 2)
    x = np.random.default_rng(0).standard_normal((3, 70_000)).astype(np.float32)
    found, expected = cpu.pack([m], cpu.choose(m), isa=isa).linear(x), x.astype(np.float64) @ cpu.decode(m).T
    np.testing.assert_allclose(found, expected, atol=LIMIT * float(np.abs(expected).max()))


@pytest.mark.parametrize(
    ("bits", "codes", "table", "says"),
    [
        (5, 30, 96, "codes of 2 to 4 bits, got 5"),
        (3, 17, 24, "dense bit stream"),
        (3, 18, 23, "table of 2\\^bits entries"),
    ],
)
def test_wrong_arrays_are_refused(bits: int, codes: int, table: int, says: str) -> None:
    arrays = [np.zeros(codes, np.uint8), np.zeros(table, np.float16)]
    with pytest.raises(ValueError, match=says):
        _native.structured(cpu.LOOKUP, 3, 16, bits, arrays)
