"""Spqr: error feedback that leaves out the few weights whose error would cost most (SpQR, 2306.03078).

As Obs, with H^-1 = U^T U, but a weight whose error e has e^2 / U[j,j]^2 > limit when its turn comes is an
outlier: what its code misses is stored beside it, and nothing is left to make up for. A group is fitted when
its turn comes, to its weights as they are by then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import msgspec

from intaglio.formats import Bilevel, Csr, Floating, Integer, Mixed, TwoLevel
from intaglio.formats.arrays import to_numpy
from intaglio.lazy import lazy
from intaglio.solvers.clip import Clip
from intaglio.solvers.isolate import without_outliers
from intaglio.solvers.natural import natural
from intaglio.solvers.obs import inverse_factor
from intaglio.solvers.sequence import Found, InSequence
from intaglio.solvers.statistics import best_pairs
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
    order: Literal["natural", "activation"] = "activation"
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
        size = fmt.group_size or len(h)
        groups = self._groups(h.diagonal(), size)
        order = torch.cat([inputs for _, inputs in groups])
        factor, damp = inverse_factor(h[order][:, order], self.damp)
        cost = torch.empty(len(h))
        cost[order] = factor.diagonal().square().reciprocal()
        limit = tau * float((w.var(0) * cost).mean()) if len(w) > 1 else math.inf
        shrink = clip.search(w, fmt, Metric(cost)) if clip else None
        searched = self.statistics == "searched"
        walk = _Walk(fmt, fmt.fit(w, shrink=shrink), shrink, cost[order], limit, searched)
        codes, isolated = walk.run(w.t()[order].contiguous(), factor, self._blocks(groups, size))
        back = torch.argsort(order)
        found = Found(fmt.pack(codes[back].t().contiguous(), walk.tables), {"damp": damp})
        return found, isolated[back].t()

    def _groups(self, power: Tensor, size: int) -> list[tuple[int, Tensor]]:
        """Number and inputs of each group, in the order in which they are rounded."""
        starts = range(0, len(power), size)
        groups = [(g, torch.arange(i, min(i + size, len(power)))) for g, i in enumerate(starts)]
        if self.order == "natural":
            return groups
        loudest = [(g, i[torch.argsort(power[i], descending=True, stable=True)]) for g, i in groups]
        return sorted(loudest, key=lambda group: -float(power[group[1]].mean()))

    def _blocks(self, groups: list[tuple[int, Tensor]], size: int) -> list[list[_Span]]:
        """Whole groups, `block` inputs together, so that a group is up to date when it is fitted."""
        spans: list[_Span] = []
        for number, inputs in groups:
            begin = spans[-1].end if spans else 0
            spans.append(_Span(number, begin, begin + len(inputs)))
        together = max(1, self.block // size)
        return [spans[i : i + together] for i in range(0, len(spans), together)]


class _Span(NamedTuple):
    """Where the inputs of a group stand in the order."""

    group: int
    begin: int
    end: int


@dataclass
class _Walk:
    """One pass over the groups in order, which fills in `tables`; `cost` (in,) is in that order."""

    fmt: Integer | TwoLevel | Bilevel
    tables: dict[str, Tensor]
    shrink: Tensor | None
    cost: Tensor
    limit: float
    searched: bool

    def run(self, w: Tensor, factor: Tensor, blocks: list[list[_Span]]) -> tuple[Tensor, Tensor]:
        """w (in, out), overwritten -> codes uint8 (in, out), and what they miss of outliers, else zero."""
        codes, isolated = torch.empty(w.shape, dtype=torch.uint8), torch.zeros_like(w)
        for block in blocks:
            begin, end = block[0].begin, block[-1].end
            errors = torch.empty(end - begin, w.shape[1])
            for span in block:
                grid = self._fit(span, w)
                for i in range(span.begin, span.end):
                    codes[i], error = grid.round(w[i])
                    isolated[i] = torch.where(error.square() * self.cost[i] > self.limit, error, 0)
                    errors[i - begin] = (error - isolated[i]) / factor[i, i]
                    w[i + 1 : end].addr_(factor[i, i + 1 : end], errors[i - begin], alpha=-1)
            w[end:].addmm_(factor[begin:end, end:].t(), errors, alpha=-1)
        return codes, isolated

    def _fit(self, span: _Span, w: Tensor) -> _Column:
        """The grid of a group for its weights as they are by now, but for likely outliers."""
        at = slice(span.group, span.group + 1)
        x, cost = w[span.begin : span.end], self.cost[span.begin : span.end]
        inner = without_outliers(x, cost, self.fmt.bits, self.limit)
        shrink = None if self.shrink is None else self.shrink[:, at]
        fitted = self.fmt.fit_groups(inner.t(), self.tables, shrink=shrink)
        if self.searched and isinstance(self.fmt, Bilevel):
            fitted = best_pairs(x, self.fmt, fitted, cost, self.limit)
        for name, values in fitted.items():
            self.tables[name][:, at] = values
        grid = self.fmt.grid({**self.tables, **fitted})
        return _Column(grid.step[:, 0] * grid.row[:, 0], grid.zero[:, 0], grid.low[:, 0], grid.high[:, 0])


class _Column(NamedTuple):
    """The grid of one group, (out,) each."""

    step: Tensor
    zero: Tensor
    low: Tensor
    high: Tensor

    def round(self, column: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of one input's weights (out,), and by how much they miss."""
        codes = (column / self.step).add_(self.zero).round_().clamp_(self.low, self.high)
        return codes, column - (codes - self.zero) * self.step


def _stored(isolated: Tensor) -> Found:
    state = Csr().store(to_numpy(isolated))
    return Found(state, {"outliers": len(state["value"]) / isolated.numel()})
