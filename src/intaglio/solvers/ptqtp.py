"""Ptqtp: trit planes by alternation, without data or under the inputs' power."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec

from intaglio.formats import Activation
from intaglio.solvers.clip import Clip
from intaglio.solvers.natural import natural
from intaglio.solvers.sequence import Found, in_sequence
from intaglio.solvers.trits import trit_planes
from intaglio.terms import Coded, Metric, Term, TritPlanes

if TYPE_CHECKING:
    from intaglio.types import Tensor


class Ptqtp(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="ptqtp"):
    """Scales by ridge regression and digits by search, in turn, till no scale moves by its share `tolerance`.

    `weighted`: each input counts by its power E[x^2], no part of the paper; without it no text is read.
    """

    steps: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50
    tolerance: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 1e-4
    weighted: bool = False

    def solve(
        self,
        w: Tensor,
        terms: Sequence[Term],
        metric: Metric,
        *,
        clip: Clip | None = None,
        activation: Activation | None = None,
        bias: Tensor | None = None,
        name: str = "matrix",
    ) -> Coded:
        """W (out, in) as the sum of `terms`."""
        guide = metric if self.weighted else Metric()

        def find(rest: Tensor, term: Term) -> Found:
            if isinstance(term, TritPlanes):
                return trit_planes(rest, term, guide, self.steps, self.tolerance)
            return natural(rest, term, guide, clip)

        return in_sequence(w, terms, metric, find, activation=activation, bias=bias, name=name)
