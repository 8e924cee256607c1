"""Spqr: error feedback that leaves out the few weights whose error would cost most (SpQR, 2306.03078).

As Obs, with H^-1 = U^T U, but a weight whose error e has e^2 / U[j,j]^2 > limit when its turn comes is an
outlier: what its code misses is stored beside it, and nothing is left to make up for. A group is fitted when
its turn comes, to its weights as they are by then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from intaglio.formats import Bilevel, Csr, Floating, Integer, Mixed, TwoLevel
from intaglio.formats.arrays import to_numpy
from intaglio.lazy import lazy
from intaglio.solvers.clip import Clip
from intaglio.solvers.isolate import without_outliers
from intaglio.solvers.natural import natural
from intaglio.solvers.sequence import Found, InSequence
from intaglio.solvers.statistics import best_pairs
from intaglio.solvers.walk import MovingGrid, Order, Span, Tables, Visit, Walk
from intaglio.terms import Dense, Metric, Outliers, Term

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


class Spqr(InSequence, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="spqr"):
    """A dense term and the outliers after it are found as one; `tau` decides how many, not the term's share.

    limit = tau * mean over the inputs of var(W[:, j]) / U[j,j]^2: a larger tau isolates fewer weights.
    `damp`: share of H's mean diagonal added to its diagonal; SpQR's 1.0 left SmolLM2 at 3 bits with 6 % more
    perplexity than 0.05. `block`: inputs between updates of the rest.
    `order`: groups with the most power first, and in a group inputs with the most, or all as stored.
    `statistics`: the coded scale and zero of a bilevel group are the best of all pairs ("searched"), or each
    the nearest to its extent's ("extent", SpQR's own: on SmolLM2's matrices it loses a quarter more).
    """

    tau: Annotated[float, msgspec.Meta(gt=0)] = 0.2
    damp: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.05
    block: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 128
    order: Order = "activation"
    statistics: Literal["searched", "extent"] = "searched"

    def find(self, w: Tensor, terms: Sequence[Term], metric: Metric, clip: Clip | None) -> tuple[Found, ...]:
        """The first of `terms`, with the outliers after it if it is dense, for W (out, in)."""
        term = terms[0]
        if not isinstance(term, Dense) or isinstance(term.format, Floating | Mixed):
            return (natural(w, term, metric, clip),)
        isolates = len(terms) > 1 and isinstance(terms[1], Outliers)
        found, isolated = self._fed_back(w, term.format, metric, clip, self.tau if isolates else math.inf)
        return (found, _stored(isolated)) if isolates else (found,)

    def _fed_back(
        self, w: Tensor, fmt: Integer | TwoLevel | Bilevel, metric: Metric, clip: Clip | None, tau: float
    ) -> tuple[Found, Tensor]:
        """The dense term, and what the codes of its outliers miss (out, in), zero elsewhere."""
        h = metric.h if metric.h is not None and metric.h.ndim == 2 else metric.diagonal(w.shape[1]).diag()
        walk = Walk.over(h, fmt.group_size or len(h), self.damp, self.block, self.order)
        cost = walk.stored(walk.cost)
        limit = tau * float((w.var(0) * cost).mean()) if len(w) > 1 else math.inf
        shrink = clip.search(w, fmt, Metric(cost)) if clip else None
        grid, searches = MovingGrid(fmt, fmt.fit(w, shrink=shrink), shrink), self.statistics == "searched"
        coding = _Coding(grid, walk.cost, limit, w.shape, searches)
        walk.run(w, coding.begin)
        codes = walk.stored(coding.codes).t().contiguous()
        found = Found(fmt.pack(codes, coding.grid.tables), {"damp": walk.damp})
        return found, walk.stored(coding.isolated).t()


class _Coding:
    """What a walk makes: codes uint8 (in, out) in its order, and what they miss of outliers, else zero."""

    def __init__(
        self, grid: MovingGrid, cost: Tensor, limit: float, shape: Sequence[int], searches: bool
    ) -> None:
        self.grid, self.cost, self.limit, self.searches = grid, cost, limit, searches
        self.codes = torch.empty(shape[1], shape[0], dtype=torch.uint8)
        self.isolated = torch.zeros(shape[1], shape[0])

    def begin(self, span: Span, x: Tensor) -> Visit:
        """A group's grid is fitted without its likely outliers."""
        cost, fmt = self.cost[span.begin : span.end], self.grid.fmt

        def refined(tables: Tables) -> Tables:
            if not self.searches or not isinstance(fmt, Bilevel):
                return tables
            return best_pairs(x, fmt, tables, cost, self.limit)

        grid = self.grid.fit(span.group, without_outliers(x, cost, fmt.bits, self.limit), refined)

        def visit(i: int, column: Tensor) -> Tensor:
            self.codes[i], error = grid.round(column)
            self.isolated[i] = torch.where(error.square() * self.cost[i] > self.limit, error, 0)
            return error - self.isolated[i]

        return visit


def _stored(isolated: Tensor) -> Found:
    state = Csr().store(to_numpy(isolated))
    return Found(state, {"outliers": len(state["value"]) / isolated.numel()})
