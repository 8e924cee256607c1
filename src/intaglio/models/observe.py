"""Statistics of what goes through a block, over calibration batches: made when asked, and remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeVar

from intaglio.lazy import lazy
from intaglio.models import roles
from intaglio.models.density import Density
from intaglio.models.spec import ModelSpec
from intaglio.models.transformer import POINTS, Weights, block

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

CHANNEL_TOKENS = 4096  # that a channel's largest and mean size are taken from: more changes them little


class Observation:
    """Statistics of one block, fed `batches` of (b, t, hidden).

    A question of a kind is answered for every point in one pass, since the passes cost most: `absmax` and
    `mean_abs` share one over about CHANNEL_TOKENS tokens, the four `hessian`s one over all of them, the four
    densities one over the few. Answers must not be written to.
    """

    def __init__(self, spec: ModelSpec, layer: int, weights: Weights, batches: Sequence[Tensor]) -> None:
        self.spec = spec
        self.layer = layer
        self.weights = weights
        self.batches = batches
        self._rows: dict[tuple[str, int], Tensor] = {}

    def absmax(self, point: str) -> Tensor:
        """max |x| of each channel: (in,), or (heads, d) of query, key, value."""
        return self._channels[point].most

    def mean_abs(self, point: str) -> Tensor:
        """mean |x| of each channel: (in,), or (heads, d)."""
        return self._channels[point].mean

    def hessian(self, point: str) -> Tensor:
        """mean of x xᵀ over all tokens, for a point where linears read: (in, in) float32."""
        return self._hessians[point].symmetric

    def density(self, point: str) -> float:
        """The pseudo-density of what linears read there."""
        return self._densities[point].value

    def rows(self, point: str, count: int) -> Tensor:
        """`count` (or all, if fewer) evenly spaced tokens: (count, in), or (count, heads, d)."""
        if (point, count) not in self._rows:
            total = sum(x.shape[0] * x.shape[1] for x in self.batches)
            self._rows[point, count] = self._fill({point: Rows(count, total)}, self.batches)[point].value
        return self._rows[point, count]

    @cached_property
    def _channels(self) -> Mapping[str, Channels]:
        return self._fill({point: Channels() for point in POINTS}, self._few())

    @cached_property
    def _hessians(self) -> Mapping[str, Hessian]:
        return self._fill({point: Hessian() for point in roles.INPUTS}, self.batches)

    @cached_property
    def _densities(self) -> Mapping[str, Density]:
        return self._fill({point: Density() for point in roles.INPUTS}, self._few())

    def _few(self) -> list[Tensor]:
        """Evenly spaced batches of about CHANNEL_TOKENS tokens in all, if the first is like the others."""
        if not self.batches:
            return []
        first, count = self.batches[0], len(self.batches)
        few = min(count, -(-CHANNEL_TOKENS // (first.shape[0] * first.shape[1])))
        return [first, *(self.batches[i * count // few] for i in range(1, few))]

    def _fill(self, statistics: Mapping[str, S], batches: Sequence[Tensor]) -> Mapping[str, S]:
        """Runs the batches through the block; each statistic takes in what passes its point."""

        def tap(point: str, x: Tensor) -> Tensor:
            if point in statistics:
                statistics[point].add(_by_token(x))
            return x

        with torch.no_grad():
            for x in batches:
                block(self.spec, self.layer, self.weights, x, tap=tap)
        return statistics


class Statistic(Protocol):
    """Something gathered from tokens (n, in), or (n, heads, d) of query, key and value."""

    def add(self, tokens: Tensor) -> None:
        """Takes one batch in."""
        ...


S = TypeVar("S", bound=Statistic)


class Channels:
    """max |x| and mean |x| of each channel."""

    most: Tensor
    _sum: Tensor
    _count = 0

    def add(self, tokens: Tensor) -> None:
        """Takes one batch in."""
        size = tokens.abs()
        most, total = size.amax(0), size.sum(0).double()
        self.most = torch.maximum(self.most, most) if self._count else most
        self._sum = self._sum + total if self._count else total
        self._count += len(tokens)

    @property
    def mean(self) -> Tensor:
        """mean |x|, float32."""
        return (self._sum / self._count).float()


class Hessian:
    """mean of x xᵀ, kept as a running mean, so that it does not grow with the data."""

    _mean: Tensor
    _count = 0

    def add(self, tokens: Tensor) -> None:
        """Takes one batch in."""
        if not self._count:
            self._mean = tokens.new_zeros(tokens.shape[1], tokens.shape[1])
        total = self._count + len(tokens)
        self._mean.addmm_(tokens.mT, tokens, beta=self._count / total, alpha=1 / total)
        self._count = total

    @property
    def symmetric(self) -> Tensor:
        """(in, in), equal to its transpose in every bit, as factorisations want it."""
        return (self._mean + self._mean.mT) / 2


class Rows:
    """`count` tokens spaced evenly over `total`."""

    def __init__(self, count: int, total: int) -> None:
        count = min(count, total)
        self._wanted = [i * total // count for i in range(count)]
        self._seen = 0
        self._kept: list[Tensor] = []

    def add(self, tokens: Tensor) -> None:
        """Takes one batch in."""
        end = self._seen + len(tokens)
        here = [i - self._seen for i in self._wanted if self._seen <= i < end]
        self._kept.append(tokens[here])
        self._seen = end

    @property
    def value(self) -> Tensor:
        """(count, ...)."""
        return torch.cat(self._kept)


def _by_token(x: Tensor) -> Tensor:
    """x (b, t, in) -> (b t, in), x (b, heads, t, d) -> (b t, heads, d)."""
    return (x if x.ndim == 3 else x.transpose(1, 2)).flatten(0, 1)
