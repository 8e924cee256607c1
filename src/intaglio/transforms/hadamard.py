"""Orthogonal matrices that spread one coordinate over all: Hadamard where one is known, random otherwise.

H (n, n) of +1 and -1 with H @ H.T == n * I. Known here: Paley's two constructions from a prime, and every
Kronecker product of known ones: 1, 2 and, of the multiples of 4 up to 256, all but 52, 92, 100, 116, 156,
172, 184, 188, 232, 236 and 244, for which `hadamard(n)` is None.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from intaglio.lazy import lazy

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

Kind = Literal["hadamard", "random"]


@lru_cache(maxsize=4)  # every layer asks for the same two
def orthogonal(n: int, kind: Kind, seed: int) -> Tensor:
    """R (n, n) float64 with R @ R.T == I, fixed by `seed`: H / sqrt(n) with signed columns, or random.

    The result is shared: not to be written to.
    """
    generator = torch.Generator().manual_seed(seed)
    plain = hadamard(n) if kind == "hadamard" else None
    if plain is None:
        return _random(n, generator)
    signs = torch.randint(0, 2, (n,), generator=generator).double() * 2 - 1
    signed: Tensor = plain * signs / n**0.5
    return signed


def hadamard(n: int) -> Tensor | None:
    """A Hadamard matrix (n, n) float64, or None where no construction is known here."""
    orders = factors(n)
    if orders is None:
        return None
    result = torch.ones(1, 1, dtype=torch.float64)
    for order in orders:
        result = torch.kron(result, _prime_order(order))
    return result


@lru_cache(maxsize=1024)
def factors(n: int) -> tuple[int, ...] | None:
    """Orders of constructed matrices whose Kronecker product has order n, fewest first: 576 -> (8, 72)."""
    if n == 1:
        return ()
    if _paley(n) is not None:
        return (n,)
    for left in range(2, int(n**0.5) + 1):
        if n % left == 0:
            parts = factors(left), factors(n // left)
            if parts[0] is not None and parts[1] is not None:
                return (*parts[0], *parts[1])
    return None


def _paley(n: int) -> int | None:
    """The prime from which a matrix of order n is built; 1 stands for [[1, 1], [1, -1]]."""
    if n == 2:
        return 1
    if n % 4:
        return None
    if _is_prime(n - 1):  # n - 1 is 3 mod 4: first construction
        return n - 1
    half = n // 2 - 1
    return half if half % 4 == 1 and _is_prime(half) else None


def _prime_order(n: int) -> Tensor:
    """The Hadamard matrix of order n from its prime."""
    prime = _paley(n)
    assert prime is not None
    if prime == 1:
        return torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    conference = _conference(prime)
    identity = torch.eye(prime + 1, dtype=torch.float64)
    if prime == n - 1:  # a skew conference matrix C: I + C
        return identity + conference
    plus = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    minus = torch.tensor([[1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
    return torch.kron(conference, plus) + torch.kron(identity, minus)


def _conference(prime: int) -> Tensor:
    """C (prime + 1, prime + 1): zero diagonal, +1 and -1 elsewhere, C @ C.T == prime * I."""
    index = torch.arange(prime)
    residue = torch.full((prime,), -1.0, dtype=torch.float64)
    residue[(index * index) % prime] = 1.0
    residue[0] = 0.0
    border = 1.0 if prime % 4 == 1 else -1.0  # symmetric or skew, as the residues are
    result = torch.zeros(prime + 1, prime + 1, dtype=torch.float64)
    result[0, 1:] = 1.0
    result[1:, 0] = border
    result[1:, 1:] = residue[(index[:, None] - index) % prime]
    return result


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % divisor for divisor in range(2, int(n**0.5) + 1))


def _random(n: int, generator: torch.Generator) -> Tensor:
    """Uniform over the orthogonal matrices: QR of Gaussians, with the signs of R's diagonal taken out."""
    q, r = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    uniform: Tensor = q * r.diagonal().sign()
    return uniform
