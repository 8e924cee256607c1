"""Greedy: each term what is best for what is left, every weight to its nearest code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from intaglio.solvers.clip import Clip
from intaglio.solvers.natural import guided, natural
from intaglio.solvers.sequence import Found, InSequence
from intaglio.terms import Metric, Term

if TYPE_CHECKING:
    from intaglio.types import Tensor


class Greedy(
    InSequence, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="greedy"
):
    """Round to nearest; of other terms see `natural`. The metric guides only a dense one's clip search."""

    def find(self, w: Tensor, terms: Sequence[Term], metric: Metric, clip: Clip | None) -> tuple[Found, ...]:
        """The first of `terms`, for W (out, in)."""
        return (natural(w, terms[0], metric, clip),)

    def reads_inputs(self, terms: Sequence[Term], clip: Clip | None) -> bool:
        """Whether the metric changes what is found."""
        return guided(terms, clip)
