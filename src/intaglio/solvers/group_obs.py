"""GroupObs: groups dropped a few at a time, the kept ones making up for them (Optimal Brain Surgeon).

With all other weights free to move, the loss of group g costs w_g ([H^-1]_gg)^-1 w_g^T.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec

from intaglio.formats import Bsr, Integer
from intaglio.formats.arrays import to_numpy
from intaglio.lazy import lazy
from intaglio.solvers.clip import Clip
from intaglio.solvers.groups import Balance, dearest, salient
from intaglio.solvers.least_squares import damped, least_squares
from intaglio.solvers.natural import natural
from intaglio.solvers.sequence import Found, InSequence
from intaglio.solvers.walk import MovingGrid, Span, Visit, Walk
from intaglio.terms import GroupSparse, Metric, Term
from intaglio.types import State

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

STEPS = 5  # of descent after each round, from where the last one ended


class GroupObs(
    InSequence, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="group_obs"
):
    """Of `GroupSparse` terms; any other is found in its natural way, as all are without a full metric.

    In each of `rounds` the cheapest groups go, and what is kept of each row moves to its least squares. What
    is kept in the end is rounded with error feedback, a group's grid being fitted when its turn comes.
    `balance`: as of `GroupPrune`. `damp`, `block`: as of `Obs`.
    """

    rounds: Annotated[int, msgspec.Meta(ge=1, le=256)] = 8
    balance: Balance = "row"
    damp: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.01
    block: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 128

    def find(self, w: Tensor, terms: Sequence[Term], metric: Metric, clip: Clip | None) -> tuple[Found, ...]:
        """The first of `terms`, for W (out, in)."""
        term = terms[0]
        if not isinstance(term, GroupSparse):
            return (natural(w, term, metric, clip),)
        if metric.h is None or metric.h.ndim == 1:
            return (salient(w, term, metric, clip, metric.diagonal(w.shape[1]), self.balance),)
        walk = Walk.over(metric.h, term.group_size, self.damp, self.block, "activation")
        kept, moved = self._dropped(w, term, metric.h, walk)
        notes = {"kept": float(kept.float().mean()), "damp": walk.damp}
        if term.bits == 16:
            return (Found(Bsr(16, term.group_size).store_values(to_numpy(kept), to_numpy(moved)), notes),)
        return (Found(_rounded(moved, kept, term, walk, clip), notes),)

    def _dropped(self, w: Tensor, term: GroupSparse, h: Tensor, walk: Walk) -> tuple[Tensor, Tensor]:
        """Which groups are kept, bool (out, groups), and weights (out, in) that make up for the others."""
        priced, firm = prices(walk), damped(h, walk.damp)
        kept, moved = torch.ones(len(w), len(priced), dtype=torch.bool), w
        for i in range(1, self.rounds + 1):  # what is gone costs nothing, so it is not kept again
            costs = torch.stack([price.rows(moved[:, inputs]) for inputs, price in priced], dim=1)
            kept = dearest(costs, term.sparsity * (i / self.rounds), self.balance)
            stays = kept.repeat_interleave(term.group_size, 1)[:, : w.shape[1]]
            moved = least_squares(w, moved, stays, firm, STEPS)
        return kept, moved


def prices(walk: Walk) -> list[tuple[Tensor, Metric]]:
    """Of every group its inputs, and ([H^-1]_gg)^-1: what its loss costs."""
    spans = sorted(span for block in walk.blocks for span in block)
    columns = [walk.factor[:, span.begin : span.end].double() for span in spans]
    inputs = [walk.order[span.begin : span.end] for span in spans]
    return [(i, Metric(torch.linalg.inv(c.T @ c).float())) for i, c in zip(inputs, columns, strict=True)]


def _rounded(w: Tensor, kept: Tensor, term: GroupSparse, walk: Walk, clip: Clip | None) -> State:
    """W (out, in) in codes where groups are kept; what these and the zeros miss moves the weights after."""
    fmt, codes = Integer(term.bits, group_size=term.group_size), torch.empty(w.T.shape, dtype=torch.uint8)
    shrink = clip.search(w, fmt, Metric(walk.stored(walk.cost))) if clip else None
    grid = MovingGrid(fmt, fmt.fit(w, shrink=shrink), shrink)

    def begin(span: Span, x: Tensor) -> Visit:
        stays, fitted = kept[:, span.group], grid.fit(span.group, x)

        def visit(i: int, column: Tensor) -> Tensor:
            codes[i], error = fitted.round(column)
            return torch.where(stays, error, column)

        return visit

    walk.run(w, begin)
    stored = (kept, walk.stored(codes).t().contiguous(), grid.tables["scale"], grid.tables["zero"])
    return Bsr(term.bits, term.group_size).store(*map(to_numpy, stored))
