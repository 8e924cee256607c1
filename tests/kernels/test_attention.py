"""Attention over pages against dense attention on what the pages decode to, on every instruction set."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio import _native
from intaglio.types import Array

ISAS = _native.isas()
PAGE = 64
BITS = (32, 16, 8, 4)


def filled(isa: str, bits: int, heads: int, dim: int, tokens: int, seed: int = 0) -> _native.Pages:
    """Pages of random keys (some channels far from zero) and values."""
    rng = np.random.default_rng(seed)
    pages = _native.Pages(heads, dim, bits, -(-tokens // PAGE), isa)
    offset = 3 * rng.standard_normal((heads, dim))
    for t in range(tokens):
        key, value = rng.standard_normal((2, heads, dim))
        pages.write(t, (key + offset).astype(np.float32), value.astype(np.float32))
    return pages


def queries(n: int, rep: int, dim: int) -> Array:
    return np.random.default_rng(n * rep + dim).standard_normal((n, rep, dim)).astype(np.float32)


def dense(
    pages: _native.Pages,
    q: Array,
    head: int,
    position: int,
    bits: int,
    *,
    window: int = 0,
    softcap: float = 0.0,
) -> Array:
    """Softmax attention in float64; coded pages are read by queries of int8 per head."""
    n = position + len(q)
    keys, values = (np.stack([pages.read(t)[i][head] for t in range(n)]).astype(np.float64) for i in (0, 1))
    exact = q.astype(np.float64)
    if bits < 16:
        step = np.abs(q).max(-1, keepdims=True) / np.float32(127)
        exact = np.rint(q / step) * step.astype(np.float64)
    scores = exact @ keys.T * q.shape[2] ** -0.5  # (queries, rep, keys)
    if softcap:
        scores = softcap * np.tanh(scores / softcap)
    at, key = position + np.arange(len(q))[:, None], np.arange(n)[None]
    seen = (key <= at) & (key > at - (window or n + 1))
    scores = np.where(seen[:, None], scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return (p / p.sum(-1, keepdims=True)) @ values


def near(found: Array, expected: Array) -> None:
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(
    ("heads", "dim", "rep"), [(1, 64, 3), (2, 72, 1), (3, 8, 4), (1, 5, 7), (2, 128, 2), (1, 80, 33)]
)
@pytest.mark.parametrize(
    ("tokens", "position", "window", "softcap"),
    [(1, 0, 0, 0), (65, 0, 0, 0), (150, 141, 0, 5.0), (129, 100, 37, 0), (130, 129, 64, 0)],
)
def test_attend(
    isa: str,
    bits: int,
    heads: int,
    dim: int,
    rep: int,
    tokens: int,
    position: int,
    window: int,
    softcap: float,
) -> None:
    pages, q = filled(isa, bits, heads, dim, tokens), queries(tokens - position, rep, dim)
    found, _ = pages.attend(q, heads - 1, position, dim**-0.5, window, softcap)
    near(found, dense(pages, q, heads - 1, position, bits, window=window, softcap=softcap))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", BITS)
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 140), max_size=3), position=st.integers(0, 139))
def test_split_contexts_merge(isa: str, bits: int, cuts: list[int], position: int) -> None:
    """Ranges of keys, merged by their maxima and sums, give the whole."""
    tokens, rep, dim = 140, 3, 24
    pages, q = filled(isa, bits, 1, dim, tokens), queries(tokens - position, rep, dim)
    whole, _ = pages.attend(q, 0, position, dim**-0.5)
    edges = sorted({0, *cuts, tokens})
    outs, states = zip(
        *(
            pages.attend(q, 0, position, dim**-0.5, key_begin=a, key_end=b, unfinished=True)
            for a, b in pairwise(edges)
        ),
        strict=True,
    )
    most, total = np.stack(states)[..., 0], np.stack(states)[..., 1]
    keep = np.exp(most - most.max(0))  # a range that shows nothing has -inf
    merged = (np.stack(outs) * keep[..., None]).sum(0) / (total * keep).sum(0)[..., None]
    near(merged, whole)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", BITS)
def test_codes_are_the_definition(isa: str, bits: int) -> None:
    """Pages of every set decode to the same numbers, at most half a step from what was written."""
    rng = np.random.default_rng(0)
    pages, plain = (_native.Pages(2, 40, bits, 1, name) for name in (isa, "scalar"))
    for t in range(PAGE):
        key, value = (rng.standard_normal((2, 2, 40)) * 2.0 ** rng.integers(-10, 10)).astype(np.float32)
        pages.write(t, key, value), plain.write(t, key, value)
        for found, expected, x in zip(pages.read(t), plain.read(t), (key, value), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(x).max())
            step = np.ptp(x, axis=1, keepdims=True) / (2**bits - 1)
            assert (np.abs(found - x) <= 0.5 * step + 2**-10 * np.abs(x).max(1, keepdims=True)).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dim", [1, 40, 67])
def test_pages_of_32_bits_keep_every_bit(isa: str, dim: int) -> None:
    rng = np.random.default_rng(0)
    pages = _native.Pages(2, dim, 32, 1, isa)
    written = (rng.standard_normal((PAGE, 2, 2, dim)) * 10.0 ** rng.integers(-30, 30)).astype(np.float32)
    for t, (key, value) in enumerate(written):
        pages.write(t, key, value)
    assert all(np.array_equal(pages.read(t), written[t]) for t in range(PAGE))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("x", [0.0, 7.0, -7.0, 1e-9, 60000.0])
def test_constant_vectors_survive(isa: str, bits: int, x: float) -> None:
    pages = _native.Pages(1, 16, bits, 1, isa)
    vector = np.full((1, 16), x, np.float32)
    pages.write(5, vector, -vector)
    key, value = pages.read(5)
    np.testing.assert_allclose(key, vector, rtol=2e-3, atol=1e-7)
    np.testing.assert_allclose(value, -vector, rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_a_number_is_seen(isa: str, bits: int, wrong: float) -> None:
    pages, q = filled(isa, bits, 1, 16, 5), queries(1, 2, 16)
    bad = np.ones((1, 16), np.float32)
    bad[0, 3] = wrong
    pages.write(2, bad, bad)
    assert not np.isfinite(pages.attend(q, 0, 4, 0.25)[0]).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", BITS)
def test_unwritten_slots_do_not_matter(isa: str, bits: int) -> None:
    """A fresh page is filled with ones: NaN scales and values behind the last token."""
    pages = filled(isa, bits, 1, 64, 3)
    assert np.isfinite(pages.attend(queries(1, 3, 64), 0, 2, 0.125)[0]).all()


@pytest.mark.parametrize("dim", [64, 128])
def test_pages_are_as_small_as_promised(dim: int) -> None:
    """KV4: 4 bits a value and two float16 a token and head, of keys and of values; 4.5 of 16 bits at 64."""
    for isa in ISAS[:-1]:
        four, full = (_native.Pages(3, dim, bits, 1, isa).page_bytes for bits in (4, 16))
        assert four * 8 == 3 * PAGE * dim * (4 + 32 / dim)
        assert four / full == (4 + 32 / dim) / 16


def test_wrong_arguments_are_refused() -> None:
    pages = _native.Pages(2, 16, 4, 1)
    vector = np.zeros((2, 16), np.float32)
    with pytest.raises(ValueError, match="32, 16, 8 or 4 bits"):
        _native.Pages(2, 16, 5, 1)
    with pytest.raises(ValueError, match="beyond the pages"):
        pages.write(64, vector, vector)
    with pytest.raises(ValueError, match="key must have shape"):
        pages.write(0, vector[:1], vector)
    with pytest.raises(ValueError, match="queries lie beyond"):
        pages.attend(queries(2, 1, 16), 0, 63, 1.0)
    with pytest.raises(ValueError, match="does not fit"):
        pages.attend(queries(1, 1, 16), 2, 0, 1.0)
