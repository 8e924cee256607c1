"""Alternate: each term again and again on what the others leave of the matrix (MiLo, 2504.02658)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec

from intaglio.lazy import lazy
from intaglio.solvers.clip import Clip
from intaglio.solvers.hqq import Hqq
from intaglio.solvers.low_rank import rounded
from intaglio.solvers.randomized import truncated
from intaglio.solvers.sequence import Found, InSequence
from intaglio.terms import LowRank, Metric, Term

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


class Alternate(
    InSequence, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="alternate"
):
    """At most `rounds` over the terms, until the error falls by less than its share `tolerance`.

    A low rank is found anew in every round, by a randomized decomposition, and its factors are rounded to
    their format once, after the last. Every other term is found by `inner`. No text is read.
    """

    rounds: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    tolerance: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 1e-4
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0
    inner: Hqq = Hqq()

    def find(self, w: Tensor, terms: Sequence[Term], metric: Metric, clip: Clip | None) -> tuple[Found, ...]:
        """All of `terms`, for W (out, in); the metric is not looked at."""
        values, least, best, rest = [torch.zeros_like(w)] * len(terms), torch.inf, [], w
        for _ in range(self.rounds):
            stores = []
            for i, term in enumerate(terms):
                rest = rest + values[i]
                values[i], store = self._part(rest, term, clip)
                rest = rest - values[i]
                stores.append(store)
            error, before = float(rest.norm()), least
            if error < least:
                least, best = error, stores
            if error >= before * (1 - self.tolerance):
                break
        return tuple(store() for store in best)

    def reads_inputs(self, terms: Sequence[Term], clip: Clip | None) -> bool:
        """No."""
        return False

    def _part(self, rest: Tensor, term: Term, clip: Clip | None) -> tuple[Tensor, Callable[[], Found]]:
        """One term's value, and what makes it what is stored."""
        if isinstance(term, LowRank):
            left, right = truncated(rest, term.rank_of((rest.shape[0], rest.shape[1])), self.seed)
            return left @ right, lambda: rounded(left, right, term)
        (found,) = self.inner.find(rest, (term,), Metric(), clip)
        return term.decode(found.state, (rest.shape[0], rest.shape[1])), lambda: found
