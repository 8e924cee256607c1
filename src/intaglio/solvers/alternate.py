"""Alternate: each term again and again on what the others leave of the matrix (MiLo, 2504.02658)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec

from intaglio.lazy import lazy
from intaglio.solvers.clip import Clip
from intaglio.solvers.hqq import Hqq
from intaglio.solvers.low_rank import rounded
from intaglio.solvers.obs import Obs
from intaglio.solvers.randomized import truncated
from intaglio.solvers.sequence import Found, InSequence
from intaglio.solvers.spqr import Spqr
from intaglio.solvers.whitening import root
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

    A low rank is found anew in every round, by a randomized decomposition. As the last term its factors are
    rounded to their format once, after the last round; terms behind it make up for their rounding in each.
    Every other term is found by `inner`. With `hqq` no text is read; with the others, which are no part of
    MiLo, errors count by what they do to the outputs, for both (as in CALDERA, 2405.18886).
    """

    rounds: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    tolerance: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 1e-4
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0
    inner: Hqq | Obs | Spqr = Hqq()

    def find(self, w: Tensor, terms: Sequence[Term], metric: Metric, clip: Clip | None) -> tuple[Found, ...]:
        """All of `terms`, for W (out, in)."""
        guide = metric if self.reads_inputs(terms, clip) else Metric()
        factor = None if guide == Metric() else root(guide, w.shape[1])
        values, least, best, rest = [torch.zeros_like(w)] * len(terms), math.inf, [], w
        for _ in range(self.rounds):
            stores = []
            for i, term in enumerate(terms):
                rest = rest + values[i]
                if isinstance(term, LowRank):
                    values[i], store = self._product(rest, term, factor, last=i == len(terms) - 1)
                else:
                    values[i], store = self._other(rest, term, guide, clip)
                rest = rest - values[i]
                stores.append(store)
            error, before = math.sqrt(guide.error(rest)), least
            if error < least:
                least, best = error, stores
            if error >= before * (1 - self.tolerance):
                break
        return tuple(store() for store in best)

    def reads_inputs(self, terms: Sequence[Term], clip: Clip | None) -> bool:
        """If `inner` does."""
        return self.inner.reads_inputs(terms, clip)

    def _product(
        self, rest: Tensor, term: LowRank, factor: Tensor | None, *, last: bool
    ) -> tuple[Tensor, Callable[[], Found]]:
        """The closest product, and what makes it what is stored; `factor` C of H = C C^T, None of H = I."""
        shape = (rest.shape[0], rest.shape[1])
        left, right = truncated(
            rest if factor is None else rest.double() @ factor, term.rank_of(shape), self.seed
        )
        if factor is not None:
            right = torch.linalg.solve_triangular(factor, right, upper=False, left=False)
        left, right = left.float(), right.float()
        if last:
            return left @ right, lambda: rounded(left, right, term)
        found = rounded(left, right, term)
        return term.decode(found.state, shape), lambda: found

    def _other(
        self, rest: Tensor, term: Term, guide: Metric, clip: Clip | None
    ) -> tuple[Tensor, Callable[[], Found]]:
        """One term's value, and what is stored of it."""
        (found,) = self.inner.find(rest, (term,), guide, clip)
        return term.decode(found.state, (rest.shape[0], rest.shape[1])), lambda: found
