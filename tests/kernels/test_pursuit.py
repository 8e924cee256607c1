"""The native pursuit and atom update against the same in a few lines of torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from intaglio import _native
from intaglio.types import Array

SIZES = [(1, 1, 1, 3), (5, 7, 3, 9), (17, 40, 6, 20), (33, 65, 17, 40)]  # dim, atoms, nonzeros, signals


def problem(dim: int, atoms: int, signals: int) -> tuple[Tensor, Tensor]:
    gen = torch.Generator().manual_seed(dim + atoms)
    d = torch.randn(atoms, dim, generator=gen)
    return d / d.norm(dim=1, keepdim=True), torch.randn(signals, dim, generator=gen)


def pursued(
    d: Tensor, x: Tensor, nonzeros: int, picks: int = 1, threads: int = 1, per_bin: int = 1
) -> tuple[Array, Array]:
    return _native.pursue((d @ d.T).numpy(), (x @ d.T).numpy(), nonzeros, picks, threads, per_bin)


def dense(index: Array, value: Array, atoms: int) -> Tensor:
    codes = torch.zeros(len(index), atoms)
    return codes.scatter_(1, torch.from_numpy(index.astype(np.int64)), torch.from_numpy(value))


def reference(d: Tensor, x: Tensor, nonzeros: int, per_bin: int = 1) -> Tensor:
    """Orthogonal matching pursuit by residuals and least squares, one signal at a time; one atom of a bin."""
    codes = torch.zeros(len(x), len(d))
    for signal, code in zip(x.double(), codes, strict=True):
        chosen: list[int] = []
        left = signal
        for _ in range(nonzeros):
            correlation = (d.double() @ left).abs()
            for atom in chosen:
                correlation[atom // per_bin * per_bin :][:per_bin] = -1
            chosen.append(int(correlation.argmax()))
            basis = d[chosen].double().T
            found = torch.linalg.pinv(basis, rtol=1e-6) @ signal
            left = signal - basis @ found
        code[chosen] = found.float()
    return codes


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pursuit_is_the_published_one(size: tuple[int, int, int, int]) -> None:
    dim, atoms, nonzeros, signals = size
    d, x = problem(dim, atoms, signals)
    index, value = pursued(d, x, nonzeros)
    assert index.dtype == np.uint16
    assert (np.diff(index.astype(int), axis=1) > 0).all()
    if nonzeros < dim:  # beyond, nothing is left to choose by
        torch.testing.assert_close(
            dense(index, value, atoms), reference(d, x, nonzeros), rtol=1e-3, atol=1e-4
        )
    else:
        torch.testing.assert_close(
            dense(index, value, atoms) @ d, reference(d, x, nonzeros) @ d, rtol=1e-3, atol=1e-3
        )


BINS = [(8, 12, 2), (17, 40, 4), (33, 65, 5), (40, 63, 3), (24, 64, 64)]  # dim, atoms, atoms of a bin


@pytest.mark.parametrize("size", BINS, ids=str)
def test_a_bin_is_closed_by_its_first_atom(size: tuple[int, int, int]) -> None:
    dim, atoms, per_bin = size
    d, x = problem(dim, atoms, 30)
    index, value = pursued(d, x, atoms // per_bin, per_bin=per_bin)
    assert (index // per_bin == np.arange(atoms // per_bin)).all()
    torch.testing.assert_close(
        dense(index, value, atoms), reference(d, x, atoms // per_bin, per_bin), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("picks", [1, 3, 100])
def test_fewer_atoms_than_bins(picks: int) -> None:
    d, x = problem(33, 64, 40)
    index, value = pursued(d, x, 5, picks, per_bin=4)
    assert (np.diff(index.astype(int) // 4, axis=1) > 0).all()
    if picks == 1:
        torch.testing.assert_close(dense(index, value, 64), reference(d, x, 5, 4), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("picks", [1, 8])
def test_where_nothing_is_left_each_bin_gives_its_first(picks: int) -> None:
    """Signals of zeros, and one that is an atom: no bin goes without, and what it gives counts nothing."""
    d = torch.eye(12)
    x = torch.stack([torch.zeros(12), d[5]])
    index, value = pursued(d, x, 4, picks, per_bin=3)
    np.testing.assert_array_equal(index, [[0, 3, 6, 9], [0, 5, 6, 9]])
    np.testing.assert_array_equal(value, [[0, 0, 0, 0], [0, 1, 0, 0]])


def test_one_bin_is_one_atom_and_bins_of_one_are_none() -> None:
    d, x = problem(17, 40, 20)
    for per_bin, nonzeros in ((40, 1), (1, 40)):
        binned = pursued(d, x, nonzeros, per_bin=per_bin)
        assert all(map(np.array_equal, binned, pursued(d, x, nonzeros)))


@pytest.mark.parametrize(
    ("nonzeros", "picks", "per_bin"),
    [(10, 1, 1), (10, 3, 1), (10, 100, 1), (10, 3, 5), (10, 100, 5), (25, 8, 1), (25, 9, 1), (25, 16, 1)],
)
def test_what_is_chosen_is_fitted(nonzeros: int, picks: int, per_bin: int) -> None:
    """Nothing that is left correlates with an atom that was chosen; eight are solved for at a time."""
    d, x = problem(33, 65, 40)
    index, value = pursued(d, x, nonzeros, picks, per_bin=per_bin)
    left = x - dense(index, value, 65) @ d
    correlation = (left @ d.T).gather(1, torch.from_numpy(index.astype(np.int64)))
    assert correlation.abs().max() < 1e-4


def test_an_atom_twice_is_used_once() -> None:
    d, x = problem(6, 5, 8)
    d = torch.cat([d, d])
    index, value = pursued(d, x, 10)
    assert index.shape == (8, 10)
    assert np.isfinite(value).all()
    assert (np.count_nonzero(value, axis=1) <= 6).all()
    _, _, rank5 = torch.linalg.svd(d[:5], full_matrices=False)
    torch.testing.assert_close(dense(index, value, 10) @ d, x @ rank5.T @ rank5, rtol=1e-3, atol=1e-3)


def updated(d: Tensor, x: Tensor, index: Array, value: Array, steps: int) -> tuple[Tensor, Tensor]:
    """K-SVD in torch: atom by atom, each from what the others leave."""
    d, codes = d.clone(), dense(index, value, len(d))
    used = dense(index, np.ones_like(value), len(d)) > 0
    for a in range(len(d)):
        users = used[:, a]
        if not users.any():
            continue
        left = x[users] - codes[users] @ d + codes[users, a, None] * d[a]
        for _ in range(steps):
            u = left.T @ (left @ d[a])
            d[a] = u / u.norm()
        codes[users, a] = left @ d[a]
    return d, codes


@pytest.mark.parametrize("threads", [1, 3])
def test_atoms_follow_one_another(threads: int) -> None:
    d, x = problem(17, 40, 90)
    index, value = pursued(d, x, 5)
    before = x - dense(index, value, 40) @ d
    atoms, values, left = _native.update_atoms(d.numpy(), before.numpy(), index, value, 3, threads)
    expected_atoms, expected_codes = updated(d, x, index, value, 3)
    torch.testing.assert_close(torch.from_numpy(atoms), expected_atoms, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(dense(index, values, 40), expected_codes, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        torch.from_numpy(left), x - dense(index, values, 40) @ torch.from_numpy(atoms), rtol=1e-3, atol=1e-4
    )
    assert float(np.square(left).sum()) < float(before.square().sum())


def test_threads_change_no_bit() -> None:
    d, x = problem(33, 65, 200)
    one, three = pursued(d, x, 8, threads=1), pursued(d, x, 8, threads=3)
    assert all(map(np.array_equal, one, three))
    left = (x - dense(*one, 65) @ d).numpy()
    results = [_native.update_atoms(d.numpy(), left, *one, 4, threads) for threads in (1, 2, 3)]
    for other in results[1:]:
        assert all(map(np.array_equal, results[0], other))


def test_senseless_sizes_are_refused() -> None:
    d, x = problem(5, 7, 3)
    with pytest.raises(ValueError, match=r"nonzeros must be in 1\.\.7"):
        pursued(d, x, 8)
    with pytest.raises(ValueError, match="atoms must be whole bins, got 7 of them"):
        pursued(d, x, 2, per_bin=2)
    with pytest.raises(ValueError, match="atoms must be whole bins"):
        pursued(d, x, 2, per_bin=0)
    with pytest.raises(ValueError, match=r"nonzeros must be in 1\.\.1"):
        pursued(d, x, 2, per_bin=7)
    with pytest.raises(ValueError, match="an index must be below 7"):
        _native.update_atoms(
            d.numpy(), x.numpy(), np.full((3, 1), 7, np.uint16), np.ones((3, 1), np.float32), 1
        )
