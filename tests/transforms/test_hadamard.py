from __future__ import annotations

import pytest
import torch

from intaglio.transforms.hadamard import hadamard, orthogonal

SIZES = [1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 60, 64, 72, 80, 96, 112, 128, 144, 160, 192, 240]
HIDDEN = [576, 768, 896, 960, 1024, 1536, 2048, 2304, 2560]  # of models people have


@pytest.mark.parametrize("n", SIZES + HIDDEN)
def test_rows_are_orthogonal_signs(n: int) -> None:
    h = hadamard(n)
    assert h is not None
    assert h.shape == (n, n)
    assert torch.equal(h.abs(), torch.ones(n, n, dtype=torch.float64))
    assert torch.equal(h @ h.T, n * torch.eye(n, dtype=torch.float64))


@pytest.mark.parametrize("n", [3, 5, 6, 7, 10, 18, 30, 52, 92, 100])
def test_where_none_is_known_there_is_none(n: int) -> None:
    assert hadamard(n) is None


def test_the_docstring_lists_what_is_missing() -> None:
    missing = [n for n in range(4, 257, 4) if hadamard(n) is None]
    assert missing == [52, 92, 100, 116, 156, 172, 184, 188, 232, 236, 244]


@pytest.mark.parametrize("kind", ["hadamard", "random"])
@pytest.mark.parametrize("n", [1, 2, 7, 52, 64, 576])
def test_orthogonal_for_every_size(n: int, kind: str) -> None:
    r = orthogonal(n, kind, 5)
    assert (r @ r.T - torch.eye(n, dtype=torch.float64)).abs().max() < 1e-12


def test_seed_decides() -> None:
    for kind in ("hadamard", "random"):
        first = orthogonal(24, kind, 1).clone()
        orthogonal.cache_clear()
        assert torch.equal(first, orthogonal(24, kind, 1))
        assert not torch.equal(first, orthogonal(24, kind, 2))
    assert not torch.equal(orthogonal(24, "hadamard", 1), orthogonal(24, "random", 1))
