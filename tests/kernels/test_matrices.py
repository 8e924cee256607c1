"""Products with packed matrices: integers equal, floats near, on every instruction set of this machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio import _native
from intaglio.formats.pack import pack
from intaglio.kernels import cpu
from intaglio.types import Array
from tests.kernels.matrices import INTEGER, PLAIN, meaning, quantized, sample

ISAS = _native.isas()
KINDS = range(cpu.CSR)
CODED = (cpu.W2, cpu.W3, cpu.W4, cpu.W8)  # codes that multiply floats
# rows, cols, group, bits (0: the widest of the kind)
SHAPES = [
    (1, 1, 64, 0),
    (7, 5, 64, 0),
    (17, 8, 8, 0),
    (18, 80, 16, 0),
    (31, 97, 32, 0),
    (33, 64, 64, 0),
    (65, 129, 40, 0),
    (16, 1031, 512, 0),
    (40, 576, 264, 0),
]


def near(found: Array, expected: Array, tolerance: float = 1e-4) -> None:
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def reads(kind: int, x: Array) -> Array:
    return x.astype(np.float64) if kind < cpu.W8A8 else quantized(x)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", INTEGER)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_integers_are_exact(isa: str, kind: int, data: st.DataObject) -> None:
    rows, cols, tokens = (data.draw(st.integers(1, most)) for most in (70, 400, 40))
    group, seed = 8 * data.draw(st.integers(1, 40)), data.draw(st.integers(0, 99))
    rng = np.random.default_rng(seed)
    bits = 8 if kind == cpu.W8A8 else data.draw(st.integers(2, 4))
    extreme, most_step = data.draw(st.booleans()), data.draw(st.sampled_from([8, 9, 16]))
    m = sample(kind, rows, cols, rng, group=group, bits=bits, extreme=extreme, most_step=most_step)
    q = rng.integers(-127, 128, (tokens, cols)).astype(np.int8)
    assert np.array_equal(m.packed(isa).accumulate(q), q.astype(np.int64) @ m.levels.T)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", INTEGER)
@pytest.mark.parametrize("sign", [-127, 127])
@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 9, 33])
@pytest.mark.parametrize("most_step", [8, 16])
def test_extremes_do_not_saturate(isa: str, kind: int, sign: int, tokens: int, most_step: int) -> None:
    m = sample(kind, 33, 2048, np.random.default_rng(0), group=256, extreme=True, most_step=most_step)
    q = np.full((tokens, 2048), sign, np.int8)
    assert np.array_equal(m.packed(isa).accumulate(q), q.astype(np.int64) @ m.levels.T)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("sign", [-127, 127])
def test_lowest_eight_bit_code(isa: str, sign: int) -> None:
    """Code 0 means -128, whose magnitude no int8 holds."""
    m = sample(cpu.W8A8, 9, 100, np.random.default_rng(0))
    part = (8, 100, np.zeros((9, 100), np.uint8), m.part[3], None, None)
    packed = _native.Matrix(cpu.W8A8, 100, [part], isa)
    assert (packed.accumulate(np.full((5, 100), sign, np.int8)) == -128 * sign * 100).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", INTEGER)
@pytest.mark.parametrize("cols", [8, 576, 1000])
@pytest.mark.parametrize("rows", [1, 97, 65])
def test_integers_of_several_tokens(isa: str, kind: int, cols: int, rows: int) -> None:
    """Around the blocks of 16 tokens, 32 rows and 64 columns that some sets multiply at a time."""
    rng = np.random.default_rng(rows * cols)
    m = sample(kind, rows, cols, rng, most_step=13)
    packed = m.packed(isa)
    q = rng.integers(-127, 128, (64, cols)).astype(np.int8)
    expected = q.astype(np.int64) @ m.levels.T
    for tokens in (1, 3, 4, 5, 6, 7, 15, 16, 17, 31, 32, 33, 48, 63, 64):
        assert np.array_equal(packed.accumulate(q[:tokens]), expected[:tokens])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", INTEGER)
def test_integers_of_very_many_tokens(isa: str, kind: int) -> None:
    rng = np.random.default_rng(0)
    m = sample(kind, 33, 72, rng, extreme=True)
    q = rng.integers(-127, 128, (2050, 72)).astype(np.int8)
    assert np.array_equal(m.packed(isa).accumulate(q), q.astype(np.int64) @ m.levels.T)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", INTEGER)
@pytest.mark.parametrize("cols", [16384, 16392, 32768, 32776])
@pytest.mark.parametrize("sign", [-127, 127])
def test_the_widest_rows(isa: str, kind: int, cols: int, sign: int) -> None:
    """Sums as large as they get, and rows longer than what is written out as bytes."""
    rng = np.random.default_rng(0)
    m = sample(kind, 33, cols, rng, group=1024, most_step=13)
    q = np.full((9, cols), sign, np.int8)
    q[1] = rng.integers(-127, 128, cols)
    assert np.array_equal(m.packed(isa).accumulate(q), q.astype(np.int64) @ m.levels.T)


@pytest.mark.parametrize("isa", ISAS)
def test_rows_that_fit_bytes_among_others(isa: str) -> None:
    """Levels of a row less the lowest are a byte or not: with any zeros and steps of 16 they are not."""
    rng = np.random.default_rng(0)
    fits = [False, True, False, False, True, True, False]
    parts = [sample(cpu.W4A8_TWO, 32, 200, rng, extreme=fit) for fit in fits]
    packed = _native.Matrix(cpu.W4A8_TWO, 200, [p.part for p in parts], isa)
    q = rng.integers(-127, 128, (37, 200)).astype(np.int8)
    levels = np.concatenate([p.levels for p in parts])
    assert np.array_equal(packed.accumulate(q), q.astype(np.int64) @ levels.T)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", INTEGER)
@pytest.mark.parametrize("cols", [576, 520])
def test_sums_may_be_finer_than_groups(isa: str, kind: int, cols: int) -> None:
    """A buffer of activations serves matrices of several group sizes."""
    rng = np.random.default_rng(0)
    m = sample(kind, 20, cols, rng, group=192)
    q = rng.integers(-127, 128, (5, cols)).astype(np.int8)
    for sum_group in (8, 1 if kind == cpu.W4A8_TWO else 4):
        found = m.packed(isa).accumulate(q, sum_group=sum_group)
        assert np.array_equal(found, q.astype(np.int64) @ m.levels.T)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("group", [256, 264, 1000])
def test_zeros_of_large_groups(isa: str, group: int) -> None:
    """Sums of more than 256 columns leave 16 bits."""
    rng = np.random.default_rng(0)
    codes, zero, steps = np.zeros((5, 1000)), np.full((5, -(-1000 // group)), 15, np.uint8), 16
    part = (4, group, pack(codes.astype(np.uint8), 4), np.ones((5, 1), np.float32), zero, zero * 0 + steps)
    levels, _ = meaning(part, codes, 1000)
    q = np.full((3, 1000), -127, np.int8)
    q[1] = rng.integers(-127, 128, 1000)
    assert np.array_equal(
        _native.Matrix(cpu.W4A8_TWO, 1000, [part], isa).accumulate(q), q.astype(np.int64) @ levels.T
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "cols", "group", "bits"), SHAPES)
def test_linear(isa: str, kind: int, rows: int, cols: int, group: int, bits: int) -> None:
    rng = np.random.default_rng(rows * cols)
    m = sample(kind, rows, cols, rng, group=group, bits=bits)
    packed = m.packed(isa)
    bias = rng.standard_normal(rows).astype(np.float32)
    for tokens in (1, 2, 3, 4, 5, 7, 8, 19, 33):
        x = rng.standard_normal((tokens, cols)).astype(np.float32)
        y = reads(kind, x) @ m.w.T
        near(packed.linear(x), y)
        near(packed.linear(x, bias=bias, alpha=0.5), 0.5 * (y + bias))
        onto = rng.standard_normal((tokens, rows)).astype(np.float32)
        near(packed.linear(x, bias=bias, alpha=2, onto=onto), onto + 2 * (y + bias))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", [cpu.F32, *CODED])
def test_linear_of_many_tokens(isa: str, kind: int) -> None:
    """More tokens than partial sums are kept for, more columns than a panel."""
    rng = np.random.default_rng(0)
    m = sample(kind, 37, 520, rng)
    x = rng.standard_normal((260, 520)).astype(np.float32)
    near(m.packed(isa).linear(x), x.astype(np.float64) @ m.w.T)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_token_does_not_depend_on_its_batch(isa: str, kind: int) -> None:
    rng = np.random.default_rng(0)
    packed = sample(kind, 37, 600, rng, group=40).packed(isa)
    x = rng.standard_normal((70, 600)).astype(np.float32)
    bias, onto = rng.standard_normal(37).astype(np.float32), rng.standard_normal((70, 37)).astype(np.float32)
    together = packed.linear(x)
    for count in (1, 2, 3, 5, 12, 33):
        assert np.array_equal(packed.linear(x[:count]), together[:count])
    for added in (None, onto):
        together = packed.linear(x, bias=bias, alpha=0.7, onto=added)
        for count in (1, 2, 3, 5, 12, 33):
            some = packed.linear(
                x[:count], bias=bias, alpha=0.7, onto=None if added is None else added[:count]
            )
            assert np.array_equal(some, together[:count])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", CODED)
@pytest.mark.parametrize(("cols", "group"), [(7, 64), (97, 16), (257, 1000), (520, 264), (16384 + 57, 320)])
def test_runs_of_codes_are_cut_alike_for_one_token_and_many(
    isa: str, kind: int, cols: int, group: int
) -> None:
    """Groups that cross a panel of columns, and rows longer than what one token prepares at a time."""
    rng = np.random.default_rng(0)
    m = sample(kind, 70, cols, rng, group=group)
    packed = m.packed(isa)
    x = (3 + rng.standard_normal((9, cols))).astype(np.float32)
    together = packed.linear(x)
    near(together, x.astype(np.float64) @ m.w.T)
    for token, alone in zip(x, together, strict=True):
        assert np.array_equal(packed.linear(token[None])[0], alone)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", KINDS)
def test_row(isa: str, kind: int) -> None:
    m = sample(kind, 35, 130, np.random.default_rng(1))
    packed = m.packed(isa)
    for r in (0, 7, 8, 34):
        np.testing.assert_allclose(packed.row(r), m.w[r], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
def test_parts_are_stacked_by_rows(isa: str) -> None:
    """Parts end inside a tile and may differ in bits."""
    rng = np.random.default_rng(2)
    parts = [sample(cpu.W4A8_TWO, rows, 200, rng, bits=bits) for rows, bits in ((5, 4), (1, 3), (30, 2))]
    packed = _native.Matrix(cpu.W4A8_TWO, 200, [p.part for p in parts], isa, threads=2)
    q = rng.integers(-127, 128, (3, 200)).astype(np.int8)
    levels = np.concatenate([p.levels for p in parts])
    assert np.array_equal(packed.accumulate(q), q.astype(np.int64) @ levels.T)


@pytest.mark.parametrize("isa", ISAS)
def test_threads_pack_the_same(isa: str) -> None:
    m = sample(cpu.W4, 300, 96, np.random.default_rng(3), group=32)
    one, many = (_native.Matrix(cpu.W4, 96, [m.part], isa, threads=n) for n in (1, 5))
    assert all(np.array_equal(one.row(r), many.row(r)) for r in range(300))


@pytest.mark.parametrize("isa", ISAS)
def test_no_activations_give_nan_not_a_crash(isa: str) -> None:
    m = sample(cpu.W4A8_TWO, 20, 70, np.random.default_rng(4)).packed(isa)
    x = np.zeros((3, 70), np.float32)
    x[1, 3], x[2, 69] = np.nan, np.inf
    y = m.linear(x)
    assert (y[0] == 0).all()
    assert np.isnan(y[1:]).all()


def test_matrices_stay_when_their_neighbours_go() -> None:
    """They share large pages of memory; small ones and one that is larger than such a page."""
    rng = np.random.default_rng(7)
    sizes = [(8 * int(rng.integers(1, 200)), 8 * int(rng.integers(1, 60))) for _ in range(120)] + [
        (2100, 2048)
    ]
    samples = [sample(cpu.W4A8_TWO, rows, cols, rng) for rows, cols in sizes]
    packed: list[_native.Matrix | None] = [one.packed(ISAS[0]) for one in samples]
    for _ in range(3):
        for i in rng.permutation(len(packed))[:60]:
            packed[i] = None
        packed = [one or m.packed(ISAS[0]) for one, m in zip(packed, samples, strict=True)]
        for m, matrix in zip(samples, packed, strict=True):
            assert matrix is not None
            q = rng.integers(-127, 128, (1, m.w.shape[1])).astype(np.int8)
            assert np.array_equal(matrix.accumulate(q), q.astype(np.int64) @ m.levels.T)


@pytest.mark.parametrize(("kind", "bits"), [(cpu.W2, 2), (cpu.W3, 3), (cpu.W4, 4), (cpu.W8, 8)])
def test_codes_are_read_in_as_many_bits_as_they_have(kind: int, bits: int) -> None:
    """And a scale and a zero of 16 bits for each group."""
    m = sample(kind, 64, 2048, np.random.default_rng(5), group=64)
    assert all(m.packed(isa).nbytes * 8 / m.w.size <= bits + 0.5 for isa in ISAS if isa != "scalar")


def test_packed_stream_stays_small() -> None:
    m = sample(cpu.W4A8_TWO, 64, 4096, np.random.default_rng(5), group=64)
    assert all(m.packed(isa).nbytes * 8 / m.w.size <= 4.27 for isa in ISAS if isa != "scalar")


@pytest.mark.parametrize("kind", KINDS)
def test_decode(kind: int) -> None:
    m = sample(kind, 9, 61, np.random.default_rng(6), group=24)
    np.testing.assert_allclose(_native.decode(kind, 61, m.part), m.w, rtol=1e-6, atol=1e-6)


def broken(**changes: object) -> tuple[object, ...]:
    names = ("bits", "group", "codes", "scale", "zero", "group_scale")
    good = dict(zip(names, sample(cpu.W4A8_TWO, 8, 64, np.random.default_rng(7)).part, strict=True))
    return tuple((good | changes).values())


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (broken(bits=5, codes=np.zeros((8, 40), np.uint8)), "2 to 4 bits"),
        (broken(bits=0), "positive"),
        (broken(group=0), "positive"),
        (broken(group=-8), "positive"),
        (broken(codes=np.zeros((8, 31), np.uint8)), r"codes must have shape \(8, 32\)"),
        (broken(codes=np.zeros((0, 32), np.uint8)), "scale must have shape"),
        (broken(scale=np.zeros((8, 2), np.float32)), r"scale must have shape \(8, 1\)"),
        (broken(scale=None), "needs scales"),
        (broken(zero=np.zeros((7, 1), np.uint8)), "zero must have shape"),
        (broken(zero=np.full((8, 1), 16, np.uint8)), "zero point may be at most 15"),
        (broken(group_scale=np.full((8, 1), 18, np.uint8)), "group scale may be at most 17"),
        (broken(group_scale=None), "group scales belong"),
    ],
)
def test_wrong_parts_are_refused(part: tuple[object, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _native.Matrix(cpu.W4A8_TWO, 64, [part])


def test_wrong_arguments_are_refused() -> None:
    m = sample(cpu.F32, 3, 24, np.random.default_rng(8))
    packed = m.packed("")
    with pytest.raises(ValueError, match="multiple of 8 columns, or one a row, got 12"):
        sample(cpu.W4, 3, 24, np.random.default_rng(8), group=12).packed("")
    bits_and_groups = ((cpu.W2, 2, 8, "a multiple of 16"), (cpu.W3, 3, 48, "16 or a multiple of 32"))
    for kind, bits, group, says in bits_and_groups:
        part = sample(cpu.W4, 3, 96, np.random.default_rng(8), bits=bits, group=group).part
        with pytest.raises(ValueError, match=f"groups must be of {says} columns, or one a row, got {group}"):
            _native.Matrix(kind, 96, [part])
    with pytest.raises(ValueError, match="not 'mmx'"):
        m.packed("mmx")
    with pytest.raises(ValueError, match="at least one part"):
        _native.Matrix(cpu.F32, 24, [])
    with pytest.raises(ValueError, match="unknown kind"):
        _native.Matrix(cpu.CSR, 24, [m.part])
    with pytest.raises(ValueError, match="24 columns"):
        packed.linear(np.zeros((1, 23), np.float32))
    with pytest.raises(ValueError, match="no integer accumulator"):
        packed.accumulate(np.zeros((1, 24), np.int8))
    with pytest.raises(ValueError, match="row 3 of 3"):
        packed.row(3)
    with pytest.raises(TypeError):
        _native.Matrix(cpu.W4A8_TWO, 64, [broken(zero=np.zeros((8, 1), np.int64))])
    with pytest.raises(ValueError, match="share kind"):
        _native.Matrix(
            cpu.W4, 64, [sample(cpu.W4, 2, 64, np.random.default_rng(9), group=g).part for g in (8, 16)]
        )


def test_the_set_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    m = sample(PLAIN[0], 3, 8, np.random.default_rng(10))
    assert m.packed("").isa == ISAS[0]
    monkeypatch.setenv("INTAGLIO_ISA", "scalar")
    assert m.packed("").isa == "scalar"
    assert m.packed(ISAS[0]).isa == ISAS[0]
    monkeypatch.setenv("INTAGLIO_ISA", "avx99")
    with pytest.raises(ValueError, match="INTAGLIO_ISA"):
        m.packed("")
