"""Prune: leaves out the elements whose loss costs least, and may let the others make up for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from intaglio.lazy import lazy
from intaglio.solvers.clip import Clip
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
    (2301.00774; U of `solvers/obs.py`). Without a full metric sparsegpt is wanda, without any magnitude.
    `damp`: as of `Obs`. `block`: columns whose elements sparsegpt compares with one another.
    """

    score: Literal["magnitude", "wanda", "sparsegpt"] = "wanda"
    damp: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.01
    block: Annotated[int, msgspec.Meta(ge=16, le=4096, multiple_of=16)] = 128

    def find(self, w: Tensor, terms: Sequence[Term], metric: Metric, clip: Clip | None) -> tuple[Found, ...]:
        """The first of `terms`, for W (out, in)."""
        term = terms[0]
        if not isinstance(term, NM | Sparse):
            return (natural(w, term, metric, clip),)
        if self.score == "magnitude":
            return (view(w, term, Metric(), of_rows=False),)
        if self.score == "wanda" or metric.h is None or metric.h.ndim == 1:
            return (view(w, term, metric),)
        return (self._compensated(w, term, metric.h),)

    def reads_inputs(self, terms: Sequence[Term], clip: Clip | None) -> bool:
        """Unless the magnitude says everything."""
        scored = [term for term in terms if isinstance(term, NM | Sparse)]
        others = [term for term in terms if not isinstance(term, NM | Sparse)]
        return (bool(scored) and self.score != "magnitude") or guided(others, clip)

    def _compensated(self, w: Tensor, term: Pattern, h: Tensor) -> Found:
        """Column by column: what is left out of one is made up for by those after it."""
        factor, damp = inverse_factor(h, self.damp)
        rest = w.t().clone(memory_format=torch.contiguous_format)  # (in, out): a column of W is one row here
        kept = torch.zeros_like(rest)
        for begin in range(0, len(rest), self.block):
            end = min(begin + self.block, len(rest))
            errors = self._prune_block(rest[begin:end], factor[begin:end, begin:end], term, kept[begin:end])
            rest[end:].addmm_(factor[begin:end, end:].t(), errors, alpha=-1)
        return stored(kept.t().contiguous(), term)._replace(notes={"damp": damp})

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
