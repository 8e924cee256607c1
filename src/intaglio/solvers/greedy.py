"""Greedy: each term what is best for what is left, every weight to its nearest code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from intaglio.formats import Activation
from intaglio.solvers.clip import Clip
from intaglio.solvers.natural import natural
from intaglio.solvers.sequence import Found, in_sequence
from intaglio.terms import Coded, Metric, Term

if TYPE_CHECKING:
    from intaglio.types import Tensor


class Greedy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="greedy"):
    """Round to nearest; of other terms see `natural`. The metric guides only a dense one's clip search."""

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

        def find(rest: Tensor, term: Term) -> Found:
            return natural(rest, term, metric, clip)

        return in_sequence(w, terms, metric, find, activation=activation, bias=bias, name=name)
