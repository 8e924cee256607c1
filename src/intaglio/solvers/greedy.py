"""Greedy: every weight to its nearest code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from intaglio.formats import Format, Integer
from intaglio.solvers.clip import Clip
from intaglio.solvers.sequence import in_sequence
from intaglio.terms import Coded, Metric, Term

if TYPE_CHECKING:
    from intaglio.solvers.sequence import Found
    from intaglio.types import Tensor


class Greedy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="greedy"):
    """Round to nearest. The metric only guides the clip search."""

    def solve(
        self,
        w: Tensor,
        terms: Sequence[Term],
        metric: Metric,
        *,
        clip: Clip | None = None,
        activation: Integer | None = None,
        bias: Tensor | None = None,
        name: str = "matrix",
    ) -> Coded:
        """W (out, in) as the sum of `terms`."""

        def find(rest: Tensor, fmt: Format) -> Found:
            return nearest(rest, fmt, metric, clip)

        return in_sequence(w, terms, metric, find, activation=activation, bias=bias, name=name)


def nearest(w: Tensor, fmt: Format, metric: Metric, clip: Clip | None) -> Found:
    """Tables fitted to w, narrowed where that pays, and each weight's nearest code."""
    tables = fmt.fit(w, shrink=clip.search(w, fmt, metric) if clip else None)
    return fmt.encode(w, tables), tables, {}
