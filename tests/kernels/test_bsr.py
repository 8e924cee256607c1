"""Products with kept blocks are those of the decoded matrix: empty rows, one that has half, none at all."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio import _native
from intaglio.formats import Bsr
from intaglio.kernels import cpu
from intaglio.types import Array
from tests.kernels.matrices import rounding_bound

ISAS = _native.isas()


def operand(layout: Bsr, kept: Array, cols: int) -> cpu.Operand:
    rng, shape = np.random.default_rng(0), (len(kept), cols)
    if layout.bits == 16:
        state = layout.store_values(kept, rng.standard_normal(shape).astype(np.float32))
    else:
        top = 1 << layout.bits
        codes = rng.integers(0, top, shape).astype(np.uint8)
        scale = (rng.random(kept.shape) + 0.1).astype(np.float16)
        state = layout.store(kept, codes, scale, rng.integers(0, top, kept.shape).astype(np.uint8))
    return cpu.Operand(shape, layout, state)


def mask(kind: str, rows: int, blocks: int) -> Array:
    """Which blocks are kept: none of some rows, nothing at all, half of everything in one row, all."""
    kept = np.random.default_rng(1).random((rows, blocks)) < 0.5
    if kind == "empty rows":
        kept[::3] = False
    if kind == "nothing":
        kept[:] = False
    if kind == "one row has half":
        kept[:] = False
        kept[0] = True
        kept[1 : 1 + blocks, 0] = True
    return kept


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", ["half", "empty rows", "nothing", "one row has half"])
@pytest.mark.parametrize("bits", [2, 4, 16])
@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (7, 65), (41, 192)])
def test_multiplies_by_what_it_decodes_to(
    rows: int, cols: int, size: int, bits: int, kind: str, isa: str
) -> None:
    layout = Bsr(bits, size)  # type: ignore[arg-type]
    m = operand(layout, mask(kind, rows, layout.blocks(cols)), cols)
    choice = cpu.choose(m)
    assert choice.kernel == ("bsr16" if bits == 16 else "bsr4")
    packed, w = cpu.pack([m], choice, isa=isa), layout.values(m.state, m.shape)
    x = np.random.default_rng(2).standard_normal((13, cols)).astype(np.float32)
    for n in (1, 3, 13):
        y = x[:n].astype(np.float64) @ w.T.astype(np.float64)
        found = packed.linear(x[:n])
        assert (np.abs(found - y) <= rounding_bound(w, x[:n])).all()
        assert np.array_equal(found, packed.linear(x[:n]))
        assert np.array_equal(found[-1:], packed.linear(x[n - 1 : n]))  # whoever shares the call
    assert np.array_equal(np.stack([packed.row(r) for r in range(rows)]), w)


@pytest.mark.parametrize("isa", ISAS)
def test_rows_too_wide_to_be_kept_as_integers(isa: str) -> None:
    layout = Bsr(4, 16)
    m = operand(layout, np.random.default_rng(3).random((2, layout.blocks(66_000))) < 0.5, 66_000)
    x = np.random.default_rng(2).standard_normal((3, 66_000)).astype(np.float32)
    y = x.astype(np.float64) @ layout.values(m.state, m.shape).T.astype(np.float64)
    found = cpu.pack([m], cpu.choose(m), isa=isa).linear(x)
    assert (np.abs(found - y) <= rounding_bound(layout.values(m.state, m.shape), x)).all()


@pytest.mark.parametrize("isa", ISAS)
def test_what_is_not_a_number_spoils_its_token_alone(isa: str) -> None:
    layout = Bsr(4, 16)
    m = operand(layout, np.ones((5, 3), bool), 40)
    x = np.ones((3, 40), np.float32)
    x[1, 7] = np.nan
    found = cpu.pack([m], cpu.choose(m), isa=isa).linear(x)
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2]]).all()


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        (Bsr(4, 24), "runs groups of 16, 32 or 64 columns, got 24"),
        (Bsr(8, 16), "runs codes of 2 to 4 bits, got 8"),
    ],
)
def test_declines_with_a_reason(layout: Bsr, reason: str) -> None:
    choice = cpu.choose(operand(layout, mask("half", 5, layout.blocks(70)), 70))
    assert choice.kernel == "decode-then-matmul"
    assert dict(choice.declined)["bsr4"] == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((0, np.array([0, 2, 1, 3], np.uint32)), "must not fall"),
        ((0, np.array([0, 1, 2, 9], np.uint32)), "from 0 to 3"),
        ((1, np.array([0, 1, 3], np.uint16)), "must be below 3"),
        ((2, np.zeros(23, np.uint8)), "codes of 4 bits"),
        ((4, np.array([0, 16, 1], np.uint8)), "at most 15"),
    ],
)
def test_the_core_refuses_what_would_leave_its_arrays(change: tuple[int, Array], reason: str) -> None:
    arrays: list[Array] = [
        np.array([0, 1, 2, 3], np.uint32),
        np.array([0, 1, 2], np.uint16),
        np.zeros(24, np.uint8),
        np.ones(3, np.float16),
        np.zeros(3, np.uint8),
    ]
    assert _native.structured(cpu.BSR4, 3, 40, 16, arrays, "").rows == 3
    arrays[change[0]] = change[1]
    with pytest.raises(ValueError, match=reason):
        _native.structured(cpu.BSR4, 3, 40, 16, arrays, "")
    with pytest.raises(ValueError, match="16, 32 or 64 columns"):
        _native.structured(cpu.BSR4, 3, 40, 48, arrays, "")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_take_equal_numbers_of_blocks_where_rows_do_not(threads: int, isa: str) -> None:
    """Rows as Zipf's law has them, the fullest first: equal rows a thread would be far from equal work."""
    rows, blocks = 4096, 128
    count = np.maximum(1, blocks / np.arange(1, rows + 1) ** 0.3).astype(np.int64)
    m = operand(Bsr(4, 16), np.arange(blocks) < count[:, None], blocks * 16)
    cuts = cpu.pack([m], cpu.choose(m), isa=isa).cuts(threads)
    assert cuts[0] == 0
    assert cuts[-1] == rows
    assert (np.diff(cuts) > 0).all()
    work = np.add.reduceat((count + 1) // 2, cuts[:-1])  # blocks are multiplied in pairs
    assert len(work) % threads == 0
    assert work.max() <= 1.02 * work.mean()
    by_rows = count.reshape(-1, 1024).sum(1)
    assert by_rows.max() > 1.5 * by_rows.mean()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("rows", "kind"), [(1, "half"), (7, "nothing"), (600, "one row has half"), (3001, "half")]
)
def test_cuts_cover_every_row_once(rows: int, kind: str, isa: str) -> None:
    m = operand(Bsr(16, 16), mask(kind, rows, 40), 640)
    for threads in (1, 2, 7):
        cuts = cpu.pack([m], cpu.choose(m), isa=isa).cuts(threads)
        assert cuts[0] == 0
        assert cuts[-1] == rows
        assert (np.diff(cuts) > 0).all()
