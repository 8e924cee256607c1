"""Ptqtp: trit planes by alternation, without data or under the inputs' power."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec

from intaglio.solvers.clip import Clip
from intaglio.solvers.natural import natural
from intaglio.solvers.sequence import Found, InSequence
from intaglio.solvers.trits import trit_planes
from intaglio.terms import Metric, Term, TritPlanes

if TYPE_CHECKING:
    from intaglio.types import Tensor


class Ptqtp(
    InSequence, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="ptqtp"
):
    """Scales by ridge regression and digits by search, in turn, till no scale moves by its share `tolerance`.

    `weighted`: each input counts by its power E[x^2], no part of the paper; without it no text is read.
    """

    steps: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50
    tolerance: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 1e-4
    weighted: bool = False

    def find(self, w: Tensor, terms: Sequence[Term], metric: Metric, clip: Clip | None) -> tuple[Found, ...]:
        """The first of `terms`, for W (out, in)."""
        term, guide = terms[0], metric if self.weighted else Metric()
        if isinstance(term, TritPlanes):
            return (trit_planes(w, term, guide, self.steps, self.tolerance),)
        return (natural(w, term, guide, clip),)

    def reads_inputs(self, terms: Sequence[Term], clip: Clip | None) -> bool:
        """If `weighted`."""
        return self.weighted
