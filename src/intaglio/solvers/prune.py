"""Prune: leaves out the elements whose loss costs least, and may let the others make up for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from intaglio.lazy import lazy
from intaglio.solvers.clip import Clip
from intaglio.solvers.least_squares import damped, least_squares
from intaglio.solvers.natural import guided, natural
from intaglio.solvers.obs import inverse_factor
from intaglio.solvers.patterns import Pattern, dearest_of_blocks, dearest_share, stored, view
from intaglio.solvers.sequence import Found, InSequence
from intaglio.terms import NM, Metric, Sparse, Term

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


class Prune(
    InSequence, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="prune"
):
    """Finds `nm` and `sparse` terms by a score; terms of other kinds in the natural way.

    magnitude: |w|, over the matrix | wanda: |w| times the norm of what it reads, in each row (2306.11695) |
    sparsegpt: the loss w^2 / U[j,j]^2 that is left when later columns make up for it, as they then do
    (2301.00774; U of `solvers/obs.py`); of a series of one M (TASD, 2403.07953) all terms are found together.
    Without a full metric sparsegpt is wanda, without any magnitude.
    `damp`: as of `Obs`. `block`: columns whose elements sparsegpt compares with one another. `refit`: steps
    by which what it keeps of each row then moves to its least squares; by itself a column only makes up for
    those before it.
    """

    score: Literal["magnitude", "wanda", "sparsegpt"] = "wanda"
    damp: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.01
    block: Annotated[int, msgspec.Meta(ge=16, le=4096, multiple_of=16)] = 128
    refit: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0

    def find(self, w: Tensor, terms: Sequence[Term], metric: Metric, clip: Clip | None) -> tuple[Found, ...]:
        """The first of `terms`, or the N:M of one M that they begin with, for W (out, in)."""
        term = terms[0]
        if not isinstance(term, NM | Sparse):
            return (natural(w, term, metric, clip),)
        if self.score == "magnitude":
            return (view(w, term, Metric(), of_rows=False),)
        if self.score == "wanda" or metric.h is None or metric.h.ndim == 1:
            return (view(w, term, metric),)
        if isinstance(term, NM):
            return self._series(w, _of_one_m(term, terms), metric.h)
        kept, damp = self._compensated(w, term, metric.h)
        return (stored(kept, term)._replace(notes={"damp": damp}),)

    def reads_inputs(self, terms: Sequence[Term], clip: Clip | None) -> bool:
        """Unless the magnitude says everything."""
        scored = [term for term in terms if isinstance(term, NM | Sparse)]
        others = [term for term in terms if not isinstance(term, NM | Sparse)]
        return (bool(scored) and self.score != "magnitude") or guided(others, clip)

    def _series(self, w: Tensor, series: Sequence[NM], h: Tensor) -> tuple[Found, ...]:
        """N1:M + N2:M hold what (N1 + N2):M holds; of that the largest elements are the first term's."""
        m = series[0].m
        kept, damp = self._compensated(w, NM(min(sum(term.n for term in series), m), m), h)
        found = []
        for term in series:
            largest = dearest_of_blocks(kept.abs(), term.n, m)
            found.append(stored(kept * largest, term)._replace(notes={"damp": damp}))
            kept = kept * ~largest
        return tuple(found)

    def _compensated(self, w: Tensor, term: Pattern, h: Tensor) -> tuple[Tensor, float]:
        """Column by column: what is left out of one is made up for by those after it. And the damping."""
        factor, damp = inverse_factor(h, self.damp)
        rest = w.t().clone(memory_format=torch.contiguous_format)  # (in, out): a column of W is one row here
        kept = torch.zeros_like(rest)
        for begin in range(0, len(rest), self.block):
            end = min(begin + self.block, len(rest))
            errors = self._prune_block(rest[begin:end], factor[begin:end, begin:end], term, kept[begin:end])
            rest[end:].addmm_(factor[begin:end, end:].t(), errors, alpha=-1)
        found = kept.t().contiguous()
        if self.refit:
            found = least_squares(w, found, found != 0, damped(h, damp), self.refit)
        return found, damp

    def _prune_block(self, w: Tensor, factor: Tensor, term: Pattern, kept: Tensor) -> Tensor:
        """Fills in `kept` (block, out) and moves w (block, out); the errors concern the columns after it."""
        step = term.m if isinstance(term, NM) else len(w)  # columns that are chosen among at once
        errors = torch.empty_like(w)
        chosen = torch.empty_like(w, dtype=torch.bool)
        for i in range(len(w)):
            if i % step == 0:
                costs = (w[i : i + step] / factor.diagonal()[i : i + step, None]).square().t()
                chosen[i : i + step] = _chosen(costs, term).t()
            kept[i] = w[i] * chosen[i]
            errors[i] = (w[i] - kept[i]) / factor[i, i]
            w[i + 1 :].addr_(factor[i, i + 1 :], errors[i], alpha=-1)
        return errors


def _chosen(costs: Tensor, term: Pattern) -> Tensor:
    if isinstance(term, NM):
        return dearest_of_blocks(costs, term.n, term.m)
    return dearest_share(costs, term.share, of_rows=False)


def _of_one_m(first: NM, terms: Sequence[Term]) -> list[NM]:
    """The first of these, and those after it that choose from blocks of the same length."""
    series: list[NM] = []
    for term in terms:
        if not isinstance(term, NM) or term.m != first.m:
            break
        series.append(term)
    return series
