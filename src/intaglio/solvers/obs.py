"""Obs: rounds one input at a time, and lets those not yet rounded make up for the error (GPTQ, 2210.17323).

With H^-1 = U^T U, U upper triangular, rounding column j by an error e moves each later column k by
-e * U[j,k] / U[j,j], which is the least squares answer under the metric H (Optimal Brain Surgeon).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from intaglio.errors import IntaglioError
from intaglio.formats import Bilevel, Floating, Integer, Mixed, TwoLevel
from intaglio.formats.rows import parts
from intaglio.lazy import lazy
from intaglio.solvers.clip import Clip
from intaglio.solvers.natural import natural
from intaglio.solvers.sequence import Found, InSequence
from intaglio.terms import Dense, Metric, Term

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


class Obs(InSequence, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="obs"):
    """Error feedback under a full metric; under any other, columns are independent and it rounds to nearest.

    `damp`: share of H's mean diagonal added to its diagonal; GPTQ's 0.01 loses as much on unseen text or, on
    WikiText, 4 % more (bench/solvers.py). `block`: columns between updates of the rest.
    `order`: inputs with the most power first, or as stored; groups stay contiguous columns in both.
    `grid`: a group's tables are fitted to the original weights ("fixed"), or to the weights as moved by the
    time its first column is rounded ("moving": GPTQ without act-order; measured slightly worse).
    """

    damp: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.05
    block: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 128
    order: Literal["natural", "activation"] = "activation"
    grid: Literal["fixed", "moving"] = "fixed"

    def __post_init__(self) -> None:
        if self.grid == "moving" and self.order != "natural":
            raise ValueError("grid `moving` needs order `natural`: a group's columns must follow one another")

    def find(self, w: Tensor, terms: Sequence[Term], metric: Metric, clip: Clip | None) -> tuple[Found, ...]:
        """The first of `terms`, for W (out, in)."""
        term, one_by_one = terms[0], metric.h is not None and metric.h.ndim == 2
        if one_by_one and isinstance(term, Dense) and not isinstance(term.format, Floating):
            return (self._fed_back(w, term.format, metric, clip),)
        return (natural(w, term, metric, clip),)

    def _fed_back(
        self, w: Tensor, fmt: Integer | TwoLevel | Bilevel | Mixed, metric: Metric, clip: Clip | None
    ) -> Found:
        assert metric.h is not None
        order = self._order(metric.h)
        factor, damp = inverse_factor(metric.h[order][:, order], self.damp)
        shrink = clip.search(w, fmt, _compensated(factor, order)) if clip else None
        tables = fmt.fit(w, shrink=shrink)
        moving = self.grid == "moving"
        walk = _Walk(fmt, tables, shrink, order.tolist(), moving)
        codes = torch.empty(w.shape, dtype=torch.uint8)
        block = self._block(fmt.group_size if moving else None)
        for rows in [slice(0, len(w))] if moving else parts(w):
            codes[rows, order] = walk.run(w[rows].t()[order].contiguous(), rows, factor, block).t()
        return Found(fmt.pack(codes, tables), {"damp": damp})

    def _order(self, h: Tensor) -> Tensor:
        if self.order == "natural":
            return torch.arange(len(h))
        return torch.argsort(h.diagonal(), descending=True, stable=True)

    def _block(self, group_size: int | None) -> int:
        """Whole groups, so that a group's columns are all up to date when its tables are fitted."""
        return self.block if group_size is None else max(1, self.block // group_size) * group_size


class _Walk:
    """One pass over the columns in `order`; `tables` are filled in group by group when they move."""

    def __init__(
        self,
        fmt: Integer | TwoLevel | Bilevel | Mixed,
        tables: dict[str, Tensor],
        shrink: Tensor | None,
        order: list[int],
        moving: bool,
    ) -> None:
        self.fmt, self.tables, self.shrink, self.order, self.moving = fmt, tables, shrink, order, moving
        self.size = fmt.group_size or len(order)
        self._lay_out()

    def run(self, w: Tensor, rows: slice, factor: Tensor, block: int) -> Tensor:
        """Weights of some outputs, w (in, rows) in `order`, overwritten -> codes uint8 (in, rows) in it."""
        codes = torch.empty(w.shape, dtype=torch.uint8)
        for begin in range(0, len(w), block):
            end = min(begin + block, len(w))
            errors = torch.empty(end - begin, w.shape[1])
            for i in range(begin, end):
                if self.moving and i % self.size == 0:
                    self._refit(i // self.size, w[i : i + self.size])
                codes[i], rounded = self._round(w[i], self.order[i] // self.size, rows)
                error = errors[i - begin] = (w[i] - rounded) / factor[i, i]
                w[i + 1 : end].addr_(factor[i, i + 1 : end], error, alpha=-1)
            w[end:].addmm_(factor[begin:end, end:].t(), errors, alpha=-1)
        return codes

    def _round(self, column: Tensor, group: int, rows: slice) -> tuple[Tensor, Tensor]:
        """Codes and values of the grid points nearest to one column, (rows,) each."""
        step, zero, whole = self.step[group, rows], self.zero[group, rows], self.whole[group, rows]
        low, high = self.low[group, rows], self.high[group, rows]
        codes = (column / step).add_(zero - whole).round_().add_(whole).clamp_(low, high)
        return codes, (codes - zero).mul_(step)

    def _refit(self, group: int, w: Tensor) -> None:
        shrink = None if self.shrink is None else self.shrink[:, group : group + 1]
        fmt = self.fmt.alone(group, len(self.order)) if isinstance(self.fmt, Mixed) else self.fmt
        fitted = fmt.fit_groups(w.t(), self.tables, shrink=shrink)
        for name, values in fitted.items():
            self.tables[name][:, group : group + 1] = values
        self._lay_out()

    def _lay_out(self) -> None:
        """The grid as contiguous (groups, out), since a column is one row here."""
        grid = self.fmt.grid(self.tables)
        self.step = (grid.step * grid.row).t().contiguous()
        self.zero, self.low, self.high = (t.t().contiguous() for t in (grid.zero, grid.low, grid.high))
        self.whole = self.zero.floor()


def _compensated(factor: Tensor, order: Tensor) -> Metric:
    """What a column's error costs once the columns after it have made up for it: e^2 / U[j,j]^2.

    The clip search weighs by this, not by H: on SmolLM2's matrices it leaves 7 % less error at 4 bits.
    """
    cost = torch.empty(len(order))
    cost[order] = factor.diagonal().square().reciprocal()
    return Metric(cost)


def inverse_factor(h: Tensor, damp: float) -> tuple[Tensor, float]:
    """U float32, upper triangular, with (H + damp * mean(diag H) * I)^-1 = U^T U, and the damp it took.

    H = R R^T with R upper is the Cholesky factorization of H read backwards, and U = R^-1: one factorization,
    in float64, without forming the inverse. If H is too far from positive definite the damping grows tenfold.
    """
    backwards = h.double().flip(0, 1)
    mean = h.diagonal().double().mean().clamp(min=torch.finfo(torch.float32).tiny)
    while damp <= 10:
        factor, failed = torch.linalg.cholesky_ex(backwards + torch.diag((damp * mean).expand(len(h))))
        if not failed:
            identity = torch.eye(len(h), dtype=torch.float64)
            return torch.linalg.solve_triangular(factor.flip(0, 1), identity, upper=True).float(), damp
        damp *= 10
    raise IntaglioError("the input statistics (Hessian) are not positive definite, whatever the damping")
