"""Metric: which errors of a matrix matter, as a quadratic form on its inputs or a weight of each element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from intaglio.formats.rows import parts
from intaglio.lazy import lazy

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


@dataclass(frozen=True)
class Metric:
    """error(delta) = tr(delta H delta^T) / out: the mean square error of an output if H = x^T x / tokens.

    `h` None: the identity | (in,): a diagonal | (in, in): full, symmetric.
    `elements` (out, in), in place of h: error(delta) = sum(elements * delta^2) / out, what each element alone
    costs, as the diagonal Fisher information of a loss says.
    """

    h: Tensor | None = None
    elements: Tensor | None = None

    def __post_init__(self) -> None:
        assert self.h is None or self.elements is None, "a metric is of the inputs or of the elements"

    def diagonal(self, cols: int) -> Tensor:
        """Weight of each input alone, float32 (in,); of elements, their mean over the outputs."""
        if self.elements is not None:
            return self.elements.float().mean(0)
        if self.h is None:
            return torch.ones(cols)
        return (self.h if self.h.ndim == 1 else self.h.diagonal()).float()

    def block(self, begin: int, end: int) -> Metric:
        """The metric of inputs [begin, end) alone."""
        if self.elements is not None:
            return Metric(elements=self.elements[:, begin:end])
        if self.h is None:
            return self
        return Metric(self.h[begin:end] if self.h.ndim == 1 else self.h[begin:end, begin:end])

    def of_rows(self, rows: slice) -> Metric:
        """The metric of some outputs alone."""
        return self if self.elements is None else Metric(elements=self.elements[rows])

    def ordered(self, order: Tensor) -> Metric:
        """The metric of the inputs in another order."""
        if self.elements is not None:
            return Metric(elements=self.elements[:, order])
        if self.h is None:
            return self
        return Metric(self.h[order] if self.h.ndim == 1 else self.h[order][:, order])

    def weigh(self, squares: Tensor) -> Tensor:
        """Squares (out, in), each times its input's weight, or its own."""
        if self.elements is not None:
            return squares * self.elements.float()
        return squares * self.diagonal(squares.shape[-1])

    def rows(self, delta: Tensor) -> Tensor:
        """delta H delta^T of each row: (..., in) -> (...); of elements, (..., out, in) -> (..., out)."""
        if self.h is None or self.h.ndim == 1:
            return self.weigh(delta.square()).sum(-1)
        return ((delta @ self.h.float()) * delta).sum(-1)

    def error(self, delta: Tensor) -> float:
        """Mean over the rows of delta (out, in), of which few are squared at once: it may be a vocabulary."""
        errors = [self.of_rows(rows).rows(delta[rows].float()) for rows in parts(delta)]
        return float(torch.cat(errors).double().mean())

    def relative(self, w: Tensor, rest: Tensor) -> float:
        """What is left of W as a share of its output's power: 0 is exact, 1 as bad as all zeros."""
        power = self.error(w)
        return self.error(rest) / power if power > 0 else 0.0
