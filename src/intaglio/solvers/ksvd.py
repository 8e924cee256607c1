"""Ksvd: dictionaries and block bases, learnt by K-SVD for the outputs of a layer (CoSpaDi, 2509.22075)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec

from intaglio.solvers.clip import Clip
from intaglio.solvers.dictionary import blockwise, shared
from intaglio.solvers.learning import Learning
from intaglio.solvers.natural import natural
from intaglio.solvers.sequence import Found, InSequence
from intaglio.terms import DenseSparse, Dictionary, Metric, Term

if TYPE_CHECKING:
    from intaglio.types import Tensor

USUAL = Learning()


class Ksvd(InSequence, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="ksvd"):
    """At most `sweeps` of sparse coding and updating the atoms; fewer when one gains less than `tolerance`.

    `picks`: atoms a signal chooses between two least squares; 1 is orthogonal matching pursuit as it was
    published. `steps`: of the power method for each atom. `seed`: of the order in which rows start as atoms.
    """

    sweeps: Annotated[int, msgspec.Meta(ge=1, le=1000)] = USUAL.sweeps
    picks: Annotated[int, msgspec.Meta(ge=1, le=1 << 16)] = USUAL.picks
    steps: Annotated[int, msgspec.Meta(ge=1, le=100)] = USUAL.steps
    tolerance: Annotated[float, msgspec.Meta(ge=0, lt=1)] = USUAL.tolerance
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = USUAL.seed

    def find(self, w: Tensor, terms: Sequence[Term], metric: Metric, clip: Clip | None) -> tuple[Found, ...]:
        """The first of `terms`, for W (out, in)."""
        match terms[0]:
            case Dictionary() as term:
                return (shared(w, term, metric, self.how),)
            case DenseSparse() as term:
                return (blockwise(w, term, metric, self.how),)
            case term:
                return (natural(w, term, metric, clip),)

    @property
    def how(self) -> Learning:
        """The same as the learning takes it."""
        return Learning(self.sweeps, self.picks, self.steps, self.tolerance, self.seed)
