"""Centroids: weighted k-means of the numbers of each row, all rows at once.

On a line clusters are intervals. So a row is sorted once, and with running sums of its weights one of Lloyd's
iterations is a search of the midpoints among the sorted numbers, however long the row. float64 throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from intaglio.lazy import lazy

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


def fit(values: Tensor, weights: Tensor, draws: Tensor, iterations: int) -> Tensor:
    """Centroids (rows, k), rising, of values (rows, n) under weights (rows, n), none of them negative.

    `draws` (starts, rows, k) in [0, 1) choose where each start begins; every row keeps its best start.
    """
    line = Line(values.double(), weights.double())
    found = [settle(line, line.spread(one.double()), iterations) for one in draws]
    best, error = found[0], line.error(found[0])
    for other in found[1:]:
        better = line.error(other) < error
        best = torch.where(better[:, None], other, best)
        error = torch.minimum(line.error(other), error)
    return best


def settle(line: Line, centers: Tensor, iterations: int) -> Tensor:
    """Lloyd's iterations, until nothing moves or there have been enough."""
    for _ in range(iterations):
        moved = line.means(centers)
        if torch.equal(moved, centers):
            break
        centers = moved
    return centers


def nearest(values: Tensor, centers: Tensor) -> Tensor:
    """Which of the rising centers (rows, k) each value (rows, n) is closest to: int64 (rows, n)."""
    return torch.searchsorted(_midpoints(centers), values.contiguous())


@dataclass(frozen=True)
class Line:
    """Rows of numbers with weights."""

    given: Tensor  # (rows, n)
    given_weights: Tensor

    @cached_property
    def order(self) -> Tensor:
        return torch.argsort(self.given, dim=1)

    @cached_property
    def values(self) -> Tensor:
        """Rising, (rows, n)."""
        return self.given.gather(1, self.order)

    @cached_property
    def weights(self) -> Tensor:
        """In the order of the values."""
        return self.given_weights.gather(1, self.order)

    @cached_property
    def sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """Running sums from zero on of the weights, times the values, times their squares: (rows, n + 1)."""
        pad = torch.nn.functional.pad
        parts = (self.weights, self.weights * self.values, self.weights * self.values.square())
        zeroth, first, second = (pad(part.cumsum(1), (1, 0)) for part in parts)
        return zeroth, first, second

    def spread(self, draws: Tensor) -> Tensor:
        """k-means++: centers drawn by weight times the squared distance to those before; rising."""
        centers = torch.empty_like(draws)
        cost, distance = self.weights, torch.full_like(self.values, torch.inf)
        for k in range(draws.shape[1]):
            running = cost.cumsum(1)
            at = torch.searchsorted(running, draws[:, k : k + 1] * running[:, -1:], right=True)
            center = self.values.gather(1, at.clamp_(max=self.values.shape[1] - 1))
            distance = torch.minimum(distance, (self.values - center).square())
            centers[:, k : k + 1], cost = center, self.weights * distance
        return centers.sort(1).values

    def means(self, centers: Tensor) -> Tensor:
        """The mean of what is closest to each center; one with nothing goes where the error is largest."""
        edges = self._edges(centers)
        mass, moment = (part.gather(1, edges).diff(dim=1) for part in self.sums[:2])
        moved = torch.where(mass > 0, moment / mass, centers)
        empty = mass <= 0
        if bool(empty.any()):
            moved = self._reseeded(moved, empty)
        return moved.sort(1).values

    def error(self, centers: Tensor) -> Tensor:
        """Weighted squares of the distances to the closest center: (rows,)."""
        edges = self._edges(centers)
        mass, moment, square = (part.gather(1, edges).diff(dim=1) for part in self.sums)
        return (square - 2 * centers * moment + centers.square() * mass).sum(1)

    def _edges(self, centers: Tensor) -> Tensor:
        """Where the interval of each center begins and ends, (rows, k + 1)."""
        inner = torch.searchsorted(self.values, _midpoints(centers))
        return torch.nn.functional.pad(
            torch.nn.functional.pad(inner, (1, 0)), (0, 1), value=self.values.shape[1]
        )

    def _reseeded(self, centers: Tensor, empty: Tensor) -> Tensor:
        """The m-th empty center of a row at the point with the m-th largest error, where there is any."""
        rows = empty.any(1).nonzero().flatten()
        values, own = self.values[rows], centers[rows].sort(1).values
        error = self.weights[rows] * (values - own.gather(1, nearest(values, own))).square()
        worst = error.topk(min(centers.shape[1], values.shape[1]), dim=1)
        rank = (empty[rows].cumsum(1) - 1).clamp(min=0, max=worst.indices.shape[1] - 1)
        points = values.gather(1, worst.indices).gather(1, rank)
        moves = empty[rows] & (worst.values.gather(1, rank) > 0)
        reseeded = centers.clone()
        reseeded[rows] = torch.where(moves, points, centers[rows])
        return reseeded


def _midpoints(centers: Tensor) -> Tensor:
    return ((centers[:, 1:] + centers[:, :-1]) / 2).contiguous()
