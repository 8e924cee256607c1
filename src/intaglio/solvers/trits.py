"""Trit planes: digits and scales in turn, each the best for the other (PTQTP, 2509.16989).

Every (row, group) is a problem of its own: w (n,) ~ sum over planes of a[p] * t[p], t in -1, 0, 1. Given t,
the scales are a small ridge regression; given a, each element takes the best of the 3^planes sums. Both steps
solve what they are asked, so that with a fixed ridge the loss never rises.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from intaglio.errors import IntaglioError
from intaglio.formats import groups
from intaglio.formats.arrays import to_numpy
from intaglio.formats.trits import Trits
from intaglio.lazy import lazy
from intaglio.solvers.sequence import Found
from intaglio.terms import Metric, TritPlanes

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

RIDGE, MOST_RIDGE = 1e-8, 1.0
ROWS = 128  # handled at once: digits and errors take many times the room of the weights
CONDITION = 1e6  # of the planes' products with each other, beyond which the ridge grows tenfold


class Planes(NamedTuple):
    """Scales a (problems, planes) float64, digits (problems, planes, n) float32."""

    a: Tensor
    digits: Tensor


def trit_planes(
    w: Tensor, term: TritPlanes, metric: Metric, steps: int = 50, tolerance: float = 1e-4
) -> Found:
    """W (out, in) as planes; each input counts by the metric's diagonal."""
    cols, weights = w.shape[1], _weights(metric, w.shape[1], term.group_size)
    scales, digits = [], []
    for begin in range(0, len(w), ROWS):
        rows = w[begin : begin + ROWS]
        problems = groups.split(rows, term.group_size)
        x, weight = (t.reshape(-1, problems.shape[2]) for t in (problems, weights.expand(len(rows), -1, -1)))
        a, t = _stored(x, alternate(x, weight, term.planes, steps, tolerance))
        scales.append(a.reshape(*problems.shape[:2], -1).permute(2, 0, 1))
        digits.append(t.reshape(*problems.shape[:2], term.planes, -1).permute(2, 0, 1, 3).flatten(2))
    layout = Trits(term.planes, term.group_size)
    return Found(
        layout.store(to_numpy(torch.cat(digits, 1)[:, :, :cols]), to_numpy(torch.cat(scales, 1))), {}
    )


def alternate(w: Tensor, weights: Tensor, planes: int, steps: int, tolerance: float) -> Planes:
    """Planes of w (problems, n), each until its scales move by no more than their share `tolerance`."""
    sign = torch.where(w < 0, -1.0, 1.0)
    found = Planes(w.new_ones(len(w), planes, dtype=torch.float64), sign[:, None].repeat(1, planes, 1))
    left = torch.arange(len(w))  # those that still move
    for _ in range(steps):
        a = best_scales(w[left], weights[left], found.digits[left])
        moved = (a - found.a[left]).norm(dim=1) > tolerance * a.norm(dim=1)
        found.a[left], found.digits[left] = a, best_digits(w[left], a)
        left = left[moved]
        if not len(left):
            break
    return found


def best_scales(w: Tensor, weights: Tensor, digits: Tensor) -> Tensor:
    """The a (problems, planes) float64 that minimise sum of weights * (w - a digits)^2 + ridge * |a|^2."""
    weighted = (digits * weights[:, None]).double()
    products = weighted @ digits.double().mT  # (problems, planes, planes)
    wanted = weighted @ w.double()[:, :, None]
    return (_inverse(products) @ wanted)[:, :, 0]


def best_digits(w: Tensor, a: Tensor) -> Tensor:
    """Of every element the sum of +-a closest to it, (problems, planes, n); of equal ones the sparsest."""
    best = torch.full_like(w, torch.inf)
    chosen = torch.zeros_like(w, dtype=torch.long)
    candidates = _candidates(a.shape[1])
    for i, levels in enumerate((a @ candidates.T).float().unbind(1)):
        error = (w - levels[:, None]).square_()
        chosen.masked_fill_(error < best, i)
        best = torch.minimum(best, error)
    return candidates.float()[chosen].movedim(2, 1)


def _inverse(products: Tensor) -> Tensor:
    """Of products + ridge, which grows where planes are too much alike, as they are in the beginning."""
    ridge = torch.full((len(products), 1, 1), RIDGE, dtype=torch.float64)
    identity = torch.eye(products.shape[1], dtype=torch.float64)
    while True:
        regular = products + ridge * identity
        inverse: Tensor = torch.linalg.inv_ex(regular).inverse
        condition = regular.norm(dim=(1, 2)) * inverse.norm(dim=(1, 2))
        singular = ~(condition <= CONDITION)[:, None, None] & (ridge < MOST_RIDGE)
        if not bool(singular.any()):
            return inverse
        ridge = torch.where(singular, (ridge * 10).clamp(max=MOST_RIDGE), ridge)


def _candidates(planes: int) -> Tensor:
    """All digits an element may have, (3^planes, planes) float64: zeros first, sparser before denser."""
    every = sorted(itertools.product((0, 1, -1), repeat=planes), key=lambda c: sum(map(abs, c)))
    return torch.tensor(every, dtype=torch.float64)


def _weights(metric: Metric, cols: int, size: int) -> Tensor:
    """How much each input counts in its group, (1, groups, size), 1 on average; those past the end 0."""
    split = groups.split(metric.diagonal(cols)[None], size)
    real = groups.split(torch.ones(1, cols), size)
    mean = split.sum(2, keepdim=True) / real.sum(2, keepdim=True)
    return torch.where(mean > 0, split / mean, real)


def _stored(w: Tensor, found: Planes) -> tuple[Tensor, Tensor]:
    """Scales as stored, float16 and not negative, and int8 digits that are the best for these."""
    largest = float(found.a.abs().max())
    if largest > torch.finfo(torch.float16).max:
        raise IntaglioError(f"a scale of {largest:.3g} does not fit float16: the weights are broken")
    a = found.a.abs().half()
    return a, best_digits(w, a.double()).to(torch.int8)
