"""GroupPrune: which groups of neighbouring weights to keep (GQSA, 2412.17560)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from intaglio.solvers.clip import Clip
from intaglio.solvers.groups import Balance, salient
from intaglio.solvers.natural import natural
from intaglio.solvers.obs import inverse_factor
from intaglio.solvers.sequence import Found, InSequence
from intaglio.terms import GroupSparse, Metric, Term

if TYPE_CHECKING:
    from intaglio.types import Tensor


class GroupPrune(
    InSequence, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="group_prune"
):
    """Of `GroupSparse` terms; any other is found in its natural way.

    `saliency` of a weight, of which a group has the mean: `activation` w^2 E[x^2], `obs` w^2 / (H^-1)_ii as
    in the paper, `magnitude` w^2. Since nothing makes up for what is dropped, `activation` loses least.
    `balance`: every row keeps as many groups (`row`), or the matrix as a whole does (`matrix`).
    """

    saliency: Literal["activation", "obs", "magnitude"] = "activation"
    balance: Balance = "row"
    damp: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.01

    def find(self, w: Tensor, terms: Sequence[Term], metric: Metric, clip: Clip | None) -> tuple[Found, ...]:
        """The first of `terms`, for W (out, in)."""
        term = terms[0]
        if not isinstance(term, GroupSparse):
            return (natural(w, term, metric, clip),)
        return (salient(w, term, metric, clip, self._weights(metric, w.shape[1]), self.balance),)

    def _weights(self, metric: Metric, cols: int) -> Tensor:
        """What the square of a weight of each input costs, (in,)."""
        if self.saliency == "magnitude":
            return Metric().diagonal(cols)
        if self.saliency == "activation" or metric.h is None or metric.h.ndim == 1:
            return metric.diagonal(cols)
        factor, _ = inverse_factor(metric.h, self.damp)
        return factor.square().sum(0).reciprocal()  # H^-1 = U^T U
