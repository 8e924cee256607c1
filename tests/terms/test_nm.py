"""TASD's claims in miniature: what a series of N:M views keeps of a matrix, and what it costs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from intaglio import formats, terms
from intaglio.errors import IntaglioError
from intaglio.formats.rounding import keep_largest
from intaglio.solvers import Greedy, Prune
from intaglio.terms import NM, Coded, Metric

SERIES = [((2, 4),), ((4, 8),), ((4, 8), (1, 8)), ((4, 8), (2, 8)), ((2, 4), (2, 8)), ((8, 16), (1, 4))]


def weights(rows: int, cols: int, seed: int = 0) -> Tensor:
    """Numbers that float16 holds."""
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed)).half().float()


def series(w: Tensor, *patterns: tuple[int, int]) -> Coded:
    return Prune("magnitude").solve(w, tuple(NM(n, m) for n, m in patterns), Metric())


def parts(coded: Coded) -> list[Tensor]:
    return [term.decode(coded.term_state(i), coded.shape) for i, term in enumerate(coded.terms)]


@pytest.mark.parametrize("patterns", SERIES, ids=str)
@pytest.mark.parametrize("cols", [1, 7, 16, 61, 128])
def test_terms_are_valid_disjoint_and_exact(patterns: tuple[tuple[int, int], ...], cols: int) -> None:
    w = weights(9, cols)
    coded = series(w, *patterns)
    rest = w
    for (n, m), part in zip(patterns, parts(coded), strict=True):
        blocks = torch.nn.functional.pad(part, (0, -cols % m)).reshape(9, -1, m)
        assert ((blocks != 0).sum(2) <= n).all()
        assert torch.equal(part[part != 0], rest[part != 0])
        assert (rest - part).norm() < rest.norm() or not rest.any()
        rest = rest - part
    assert (sum((part != 0).int() for part in parts(coded)) <= 1).all()


@pytest.mark.parametrize(
    ("patterns", "energy"),
    [
        (((2, 4),), 0.133),
        (((4, 8),), 0.103),
        (((4, 8), (1, 8)), 0.049),
        (((4, 8), (2, 8)), 0.019),
    ],
    ids=str,
)
def test_residual_energy_of_a_gaussian(patterns: tuple[tuple[int, int], ...], energy: float) -> None:
    assert series(weights(256, 1024), *patterns).notes["error"] == pytest.approx(energy, abs=0.003)


def test_views_of_one_block_size_add_up() -> None:
    w = weights(8, 64)
    two, one = series(w, (4, 8), (2, 8)), series(w, (6, 8))
    assert torch.equal(terms.decode(two), terms.decode(one))


@pytest.mark.parametrize(("n", "m"), [(1, 4), (2, 4), (3, 8), (4, 8)])
def test_no_other_choice_is_closer(n: int, m: int) -> None:
    w = weights(20, m)
    found = (terms.decode(series(w, (n, m))) - w).square().sum(1)
    dropped = [w[:, list(rest)].square().sum(1) for rest in combinations(range(m), m - n)]
    assert torch.allclose(found, torch.stack(dropped).amin(0))


def test_what_fits_is_lossless() -> None:
    w = weights(5, 40)
    assert torch.equal(terms.decode(series(w, (4, 8), (3, 8), (1, 8))), w)
    kept = terms.decode(series(w, (2, 8)))
    assert torch.equal(terms.decode(series(kept, (2, 8))), kept)


@given(st.data())
@settings(deadline=None)
def test_what_has_no_more_than_n_in_every_block_is_one_term(data: st.DataObject) -> None:
    m = data.draw(st.sampled_from([4, 8, 16]))
    n, rows, cols = data.draw(st.integers(1, m)), data.draw(st.integers(1, 5)), data.draw(st.integers(1, 70))
    seed, left = data.draw(st.integers(0, 99)), data.draw(st.integers(0, n))
    places = weights(rows, cols + -cols % m, seed + 1).reshape(rows, -1, m).argsort(2)
    w = weights(rows, cols, seed) * (places < left).reshape(rows, -1)[:, :cols]
    assert torch.equal(terms.decode(series(w, (n, m))), w)


@given(st.data())
@settings(deadline=None)
def test_terms_that_keep_m_of_m_in_all_lose_nothing(data: st.DataObject) -> None:
    m = data.draw(st.sampled_from([4, 8, 16]))
    patterns: list[tuple[int, int]] = []
    while left := m - sum(n for n, _ in patterns):
        patterns.append((data.draw(st.integers(1, left)), m))
    w = weights(data.draw(st.integers(1, 5)), data.draw(st.integers(1, 70)))
    assert torch.equal(terms.decode(series(w, *patterns)), w)


def test_what_is_sparse_already_is_nearly_lossless_in_two_terms() -> None:
    """Of 60 % zeros strewn over a matrix, which 2:4 by magnitude would not bear."""
    w = weights(256, 1024)
    w[w.abs() < w.abs().flatten().kthvalue(int(0.6 * w.numel())).values] = 0
    forced, three, two = (
        series(w, *patterns).notes["error"] for patterns in (((2, 4),), ((4, 8), (1, 8)), ((4, 8), (2, 8)))
    )
    assert three < 0.2 * forced
    assert two < 0.003


def test_a_later_term_weighs_what_is_left_as_the_first_did() -> None:
    """With the power of the inputs too: (4:8) + (2:8) is (6:8), and every value stands as it was."""
    w, power = weights(9, 61), Metric(torch.rand(61, generator=torch.Generator().manual_seed(1)) ** 4)
    two, one = (Prune("wanda").solve(w, tuple(NM(n, 8) for n in counts), power) for counts in ((4, 2), (6,)))
    assert torch.equal(terms.decode(two), terms.decode(one))
    assert torch.equal(terms.decode(two)[terms.decode(two) != 0], w[terms.decode(two) != 0])


@given(st.permutations(range(8)))
def test_order_within_a_block_does_not_matter(order: list[int]) -> None:
    w = weights(6, 8)
    assert torch.equal(terms.decode(series(w[:, order], (3, 8))), terms.decode(series(w, (3, 8)))[:, order])


def test_of_equal_ones_the_first_is_kept() -> None:
    w = torch.tensor([[1.0, -1, 1, 1, -2, 2, 2, 0]])
    assert terms.decode(series(w, (2, 4))).tolist() == [[1, -1, 0, 0, -2, 2, 0, 0]]


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8), (1, 8), (8, 16)])
def test_a_thinned_input_is_the_view_of_it(n: int, m: int) -> None:
    """TASD-A at run time keeps what TASD-W of the same numbers keeps."""
    x = weights(7, 61)
    assert torch.equal(keep_largest(x, n, m), terms.decode(series(x, (n, m))))


@pytest.mark.parametrize(("n", "m", "bits"), [(2, 4, 9), (4, 8, 9), (1, 8, 2.375), (2, 8, 4.75), (8, 16, 9)])
def test_bits_per_weight(n: int, m: int, bits: float) -> None:
    assert terms.nbits(series(weights(16, 64), (n, m))) / (16 * 64) == bits


def test_integers_of_eight_bits_lose_little() -> None:
    w = weights(16, 64)
    exact, rounded = (
        Greedy().solve(w, (NM(4, 8, value),), Metric()).notes["error"] for value in ("float16", "int8")
    )
    assert exact < rounded < exact + 1e-4


def test_a_weight_beyond_float16_is_refused() -> None:
    with pytest.raises(IntaglioError, match="7e\\+04 does not fit float16"):
        series(torch.full((1, 4), 7e4), (2, 4))


@pytest.mark.parametrize("form", [formats.NM(2, 4), formats.NM(1, 8), formats.NM(1, 8, "int8")], ids=repr)
def test_broken_values_are_named(form: formats.NM) -> None:
    shape = (3, 700 if form.m == 8 else 701)
    state = dict(form.store(keep_largest(weights(*shape), form.n, form.m).numpy()))
    assert form.faults(state, shape) is None
    one = {**state, "place": state["place"] ^ np.uint8(1)}
    moved = {**state, "value": np.full_like(state["value"], 1)}
    if form.m == 4:
        assert form.faults(one, shape) == "a block keeps 1 of 4, not 2"
        assert form.faults(moved, shape) == "a value stands behind the last of 701 columns"
    else:
        assert form.faults({**state, "place": state["place"] | np.uint8(255)}, shape) == (
            "a value stands behind the last of 700 columns"
        )
    if form.value == "int8":
        assert "scale" in str(form.faults({**state, "scale": -state["scale"]}, shape))
    else:
        infinite = np.full_like(state["value"], np.inf)
        assert form.faults({**state, "value": infinite}, shape) == "values are not finite"
